"""The HTML report as text; test_html_in_browser.py opens it."""

from __future__ import annotations

import base64
import copy
import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest

from rlmba.errors import UsageError
from rlmba.experiments.content import Cell, FigureData, Subject, TableData
from rlmba.experiments.curves import group_runs
from rlmba.experiments.html import render
from rlmba.runfolder.store import read_run

HOSTILE = "</script><script>window.harm = 1</script><img src=x onerror='window.harm = 2'>\"&'"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><rect width="40" height="20"/></svg>'


class Page(HTMLParser):
    """Elements with their attributes and the text inside."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.texts.append("")

    def handle_data(self, data):
        if self.texts:
            self.texts[-1] += data

    def elements(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]

    def text(self, tag: str, **wanted: str) -> list[str]:
        return [
            text.rstrip("\n")
            for (name, attributes), text in zip(self.found, self.texts, strict=True)
            if name == tag and all(attributes.get(k) == v for k, v in wanted.items())
        ]


def curves(page: str) -> dict:
    (text,) = Page(page).text("script", id="curves")

    def refused(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refused)


def with_fields(group, **fields):
    """A copy with these fields, without the checks of the class."""
    changed = copy.copy(group)
    for name, value in fields.items():
        object.__setattr__(changed, name, value)
    return changed


@pytest.fixture
def make_groups(write_run):
    """Groups of runs: data sets x fusions x strategies, each over these seeds."""

    def make(
        strategies=("random", "rlmba"),
        datasets=("one",),
        fusions=("uniform",),
        seeds=(0, 1),
        **more,
    ):
        runs = [
            write_run(
                f"{d}-{f}-{s}-{seed}",
                dataset="features", data=f"{d}.npz", fusion=f, strategy=s, seed=seed,
                level=0.3 + 0.1 * i, **more,
            )
            for d in datasets for f in fusions for i, s in enumerate(strategies) for seed in seeds
        ]  # fmt: skip
        return group_runs([read_run(run) for run in runs])

    return make


def report(groups=(), tables=(), figures=(), facts=None, title="Report"):
    return render(title, tables=tables, figures=figures, groups=groups, facts=facts or {})


def test_nothing_is_outside_and_only_our_script_may_run(make_groups):
    figure = FigureData("f", "F", "", {"svg": SVG, "png": PNG, "pdf": b"%PDF"}, ("x",), [(1,)])
    table = TableData("t", "T", ("a",), ((Cell("1", 1.0),),))
    page = Page(report(make_groups(), [table], [figure], {"made": "today"}))
    for tag, attributes in page.found:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            if (value := attributes.get(name)) is not None:
                assert value.startswith(("data:", "#")), (tag, value[:40])
    policies = [a["content"] for a in page.elements("meta") if "http-equiv" in a]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'; img-src data:;")
    assert "script-src 'sha256-" in policies[0]
    assert len(page.elements("script")) == 2
    assert "@import" not in page.text("style")[0]
    assert "url(" not in page.text("style")[0]


def test_hostile_text_is_text_wherever_it_stands(make_groups):
    groups = [
        replace(g, dataset=HOSTILE, strategy=HOSTILE + g.strategy, fusion=HOSTILE, variant=HOSTILE)
        for g in make_groups()
    ]
    table = TableData(
        HOSTILE, HOSTILE, (HOSTILE, "data set"), ((Cell(HOSTILE, 1.0), Cell(HOSTILE)),), (HOSTILE,)
    )
    figure = FigureData(HOSTILE, HOSTILE, HOSTILE, {"png": PNG}, (HOSTILE,), [(HOSTILE,)])
    page = report(groups, [table], [figure], {HOSTILE: HOSTILE}, title=HOSTILE)
    parsed = Page(page)
    assert len(parsed.elements("script")) == 2
    assert not [name for _, a in parsed.found for name in a if name.startswith("on")]
    for tag in ("title", "h1", "td", "li", "figcaption", "dt", "dd"):
        assert HOSTILE in parsed.text(tag)
    assert curves(page)["datasets"] == [HOSTILE]
    for link in parsed.elements("a"):
        assert not set(link.get("download") or "") & set("<>\"'/& ")


def test_curves_are_means_and_deviations_over_seeds(make_groups):
    groups = make_groups(seeds=(0, 1, 5))
    data = curves(report(groups))
    assert data["names"] == [group.strategy for group in groups]
    for group, written in zip(groups, data["groups"], strict=True):
        assert written["seeds"] == [0, 1, 5]
        assert written["labels"] == [20, 40, 60, 80]
        for head, values in group.top1.items():
            curve = written["curves"]["top1"][head]
            np.testing.assert_allclose(curve["mean"], values.mean(axis=0), rtol=6e-5)
            np.testing.assert_allclose(curve["sd"], values.std(axis=0, ddof=1), rtol=6e-3)
        assert set(written["curves"]["contributions"]) == {"image", "audio"}


def test_one_seed_has_no_deviation(make_groups):
    (written,) = curves(report(make_groups(("random",), seeds=(3,))))["groups"]
    assert set(written["curves"]["top1"]["mm"]) == {"mean"}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_point_that_one_seed_lacks_is_left_out(make_groups, bad):
    (group,) = make_groups(("random",))
    values = group.top1["mm"].copy()
    values[1, 2] = bad
    metrics = {"mm": {"top1": values, "f1": np.full(values.shape, np.nan)}}
    (written,) = curves(report([with_fields(group, metrics=metrics)]))["groups"]
    curve = written["curves"]["top1"]["mm"]
    assert [mean is None for mean in curve["mean"]] == [False, False, True, False]
    assert [sd is None for sd in curve["sd"]] == [False, False, True, False]
    assert "f1" not in written["curves"]


def test_every_figure_of_a_group_is_offered(make_groups):
    (group,) = make_groups(("random",))
    values = group.top1["mm"]
    named = {"top1": values, "nll": values + 1, "own": values + 2}
    full = with_fields(group, metrics={"mm": named}, raw_reward=values)
    data = curves(report([full]))
    per_modality = ["contributions", "weights", "fusion_weights"]
    known = ["top1", "nll", *per_modality, "fairness_gap", "balance", "raw_reward"]
    assert list(data["metrics"]) == [*known, "own"]
    assert data["groups"][0]["curves"]["balance"][""]["mean"] == pytest.approx(
        group.balance.mean(axis=0), rel=6e-5
    )


def test_without_metrics_accuracies_are_those_of_the_group(make_groups):
    (group,) = make_groups(("random",))
    nothing = np.full_like(group.top1["mm"], np.nan)
    bare = with_fields(group, metrics={}, raw_reward=nothing)
    written = curves(report([bare]))["groups"][0]["curves"]
    assert {"top1", "top1_macro"} <= set(written)
    assert not {"nll", "raw_reward"} & set(written)


def test_lines_of_equal_names_are_told_apart(make_groups):
    (group,) = make_groups(("random",))
    pooled, variant = replace(group, predictor="pooled"), replace(group, variant="kappa=3")
    names = curves(report([group, group, pooled, variant]))["names"]
    own = group.predictor
    assert names == [
        f"random ({own})", f"random ({own}) #2", "random (pooled)", f"random ({own}) [kappa=3]",
    ]  # fmt: skip


def test_tables_hold_their_cells_values_and_notes():
    table = TableData(
        "t", "Title", ("name", "figure"),
        (
            (Cell("a"), Cell("0.5 ± 0.1", 0.5)), (Cell("b"), Cell("–", float("nan"))),
            (Cell("c"), Cell("never", float("inf"))), (Cell("d"), Cell("–")),
        ),
        ("first", "second"), frozenset({(0, 1)}),
    )  # fmt: skip
    page = Page(report(tables=[table]))
    assert page.text("td")[0] == "a"
    assert page.text("strong") == ["0.5 ± 0.1"]
    values = [a.get("data-value") for a in page.elements("td")]
    assert values == [None, "0.5", None, None, None, "Infinity", None, None]
    assert [a.get("class") for a in page.elements("th")] == [None, "number"]
    assert page.text("li")[-2:] == ["first", "second"]
    (link,) = [a for a in page.elements("a") if a.get("download") == "t.csv"]
    text = unquote(link["href"].partition(",")[2])
    assert list(csv.reader(io.StringIO(text)))[1] == ["a", "0.5 ± 0.1"]


def test_a_figure_is_inside_once():
    figure = FigureData("fig a", "F", "Cap", {"png": PNG, "svg": SVG}, ("x", "y"), [(1, 0.5)])
    page = report(figures=[figure])
    (image,) = Page(page).elements("img")
    assert image["src"] == "data:image/svg+xml;base64," + base64.b64encode(SVG).decode()
    assert page.count(image["src"]) == 1
    assert base64.b64encode(PNG).decode() not in page  # a browser draws it
    links = {a["download"] for a in Page(page).elements("a") if "download" in a}
    assert links == {"fig-a.svg", "fig-a.png", "fig-a.csv"}


def test_bad_input_is_refused(make_groups):
    short = TableData("t1", "T", ("a", "b"), ((Cell("1"), Cell("2")), (Cell("1"),)))
    with pytest.raises(UsageError, match=r"'t1', row 1: expected 2 cells, .* got 1"):
        report(tables=[short])
    with pytest.raises(UsageError, match="'f1': expected a file of svg or png, got pdf"):
        report(figures=[FigureData("f1", "F", "", {"pdf": b""}, (), [])])
    (group,) = make_groups(("random",))
    wrong = {"mm": {"top1": group.top1["mm"][:, :3]}}
    with pytest.raises(UsageError, match=r"top1 of mm with shape \(2, 4\) .* got \(2, 3\)"):
        report([with_fields(group, metrics=wrong)])


def test_an_empty_report_and_names_that_are_no_text():
    page = report(title="bad \udcff name", facts={"x": "\udcfe"})
    page.encode()
    assert Page(page).text("h1") == ["bad ? name"]
    assert 'id="curves"' not in page


def test_items_rows_and_columns_say_what_they_are_about(make_groups):
    groups = make_groups(datasets=("one", "two"), fusions=("amcb", "uniform"))
    first, second = dict.fromkeys(g.dataset for g in groups)
    table = TableData(
        "t", f"{first}: a title is only text, amcb fusion", ("strategy", first, "uniform"),
        tuple((Cell(text), Cell(""), Cell("")) for text in ("a", first, "c")),
        subject=Subject(fusion="uniform"),
        row_subjects=(Subject(second), Subject(), Subject("elsewhere", "amcb")),
        column_subjects=(Subject(), Subject(first), Subject()),
    )  # fmt: skip
    plain = TableData("figure5_one_uniform", "T", ("data set",), ((Cell(first),),))
    figure = FigureData("f", "F", "", {"svg": SVG}, ("x",), [(1,)], Subject(second, "amcb"))
    page = Page(report(groups, [table, plain], [figure]))

    def places(tag, **wanted):
        return [
            (a.get("data-dataset"), a.get("data-fusion"))
            for a in page.elements(tag)
            if all(a.get(k) == v for k, v in wanted.items())
        ]

    assert places("section", **{"class": "item"}) == [(None, "1"), (None, None), ("1", "0")]
    assert places("tr") == [
        (None, None), ("1", None), (None, None), (None, "0"), (None, None), (None, None),
    ]  # fmt: skip
    assert places("th") == [(None, None), ("0", None), (None, None), (None, None)]
    mixed = ["data-mixed" in a for a in page.elements("section") if a.get("class") == "item"]
    assert mixed == [True, False, False]


def test_contents_name_a_fusion_and_predictor_once():
    def table(title, scope=""):
        return TableData("t", title, ("a",), ((Cell("1"),),), scope=scope)

    figure = FigureData(
        "f", "d, amcb fusion: curves", "", {"svg": SVG}, (), [], scope="amcb fusion"
    )
    page = report(
        tables=[table("Overview"), table("AUBC, amcb fusion", "amcb fusion")], figures=[figure]
    )
    contents = page.split('<nav class="contents"')[1].split("</nav>")[0]
    assert contents.count("amcb fusion") == 1
    assert re.findall(r'href="#(.*?)">(.*?)</a>', contents) == [
        ("table-0", "Overview"), ("table-1", "AUBC"), ("figure-0", "d: curves"),
    ]  # fmt: skip
    assert "<h3>d, amcb fusion: curves</h3>" in page


def test_a_large_report_stays_small(make_groups):
    """15 strategies x 5 sets x 3 fusions x 10 rounds x 8 seeds, all figures different."""
    (group,) = make_groups(("random",), seeds=range(8), grid=tuple(range(50, 550, 50)))
    rng = np.random.default_rng(0)
    figures = ("top1", "top1_macro", "nll", "ece", "f1", "auroc")

    def group_of(d, f, s):
        def values():
            return rng.random((8, 10))

        per_modality = {m: values() for m in group.modalities}
        return with_fields(
            group, dataset=f"set{d}", fusion=f"fusion{f}", strategy=f"strategy{s}",
            metrics={head: {name: values() for name in figures} for head in group.top1},
            contributions=per_modality, weights=per_modality, fusion_weights=per_modality,
            raw_reward=values(),
        )  # fmt: skip

    groups = [group_of(d, f, s) for d in range(5) for f in range(3) for s in range(15)]
    assert len(report(groups).encode()) < 1_500_000
