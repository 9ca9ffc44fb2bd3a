"""Use the HTML report in a real Chromium."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import pytest

from rlmba.experiments.content import Cell, FigureData, Subject, TableData

from .test_html import HOSTILE, PNG, SVG, make_groups, report, with_fields

__all__ = ["make_groups"]  # a fixture

STRATEGIES = ("random", "rlmba", "badge")


@pytest.fixture
def open_page(browser, tmp_path):
    """Open a page from a file; it must not print errors or request anything."""
    contexts, wrong = [], []

    def opened(html: str, **options):
        path = tmp_path / "report.html"
        path.write_text(html, encoding="utf-8")
        context = browser.new_context(**{"viewport": {"width": 1300, "height": 900}, **options})
        contexts.append(context)
        context.set_default_timeout(15_000)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(f"dialog {dialog.message}"))

        def requested(request):
            if request.url != path.as_uri() and not request.url.startswith("data:"):
                wrong.append(f"request {request.url}")

        page.on("request", requested)
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def made():
    """A cache for the module, because 36 run folders take a second."""
    return {}


@pytest.fixture
def groups(made, request):
    if "groups" not in made:
        make = request.getfixturevalue("make_groups")
        made["groups"] = make(STRATEGIES, ("one", "two"), ("uniform", "amcb"), (0, 1, 2))
    return made["groups"]


@pytest.fixture
def html(groups):
    def cells(group):
        return Cell(group.dataset), Cell(group.fusion), Cell(group.strategy)

    rows = tuple((*cells(g), Cell(f"{g.aubc.mean():.2f}", float(g.aubc.mean()))) for g in groups)
    aubc = TableData(
        "aubc", "AUBC", ("data set", "fusion", "strategy", "AUBC"), rows, ("A note.",),
        row_subjects=tuple(Subject(g.dataset, g.fusion) for g in groups),
    )  # fmt: skip
    order = TableData(
        "order", "Order", ("name", "seconds", "features:one", "features:two"),
        tuple(
            (Cell(name), Cell(text, value), Cell("1", 1.0), Cell("2", 2.0))
            for name, text, value in (
                ("b10", "9 s", 9.0), ("a", "never", None), ("b9", "10 s", 10.0),
                ("C", "– ", float("nan")), ("d", "1e-7 s", 1e-7),
            )
        ),
        column_subjects=(Subject(), Subject(), Subject("features:one"), Subject("features:two")),
    )  # fmt: skip
    wins = TableData(
        "wins_amcb",
        "Wins, amcb fusion",
        ("name",),
        ((Cell("x"),),),
        subject=Subject(fusion="amcb"),
        scope="amcb fusion",
    )
    figure = FigureData(
        "figure5_features-two_amcb", "Figure 5", "A caption.", {"png": PNG},
        ("labels", "mean"), [(20, 0.5)], Subject("features:two", "amcb"),
    )  # fmt: skip
    return report(groups, [aubc, order, wins], [figure], {"made": "today"})


def columns(page, title, column):
    """Texts of a column of the table with this title, only of visible rows."""
    table = page.get_by_role("table", name=title, exact=True)
    rows = table.locator("tbody tr:not([hidden])")
    return [row.locator("td").nth(column).inner_text().strip() for row in rows.all()]


def group_of(groups, dataset, fusion, strategy):
    named = {(g.dataset, g.fusion, g.strategy): g for g in groups}
    return named[f"features:{dataset}", fusion, strategy]


def drawn(page):
    return {line.get_attribute("data-name") for line in page.locator("#chart .line").all()}


def combobox(page, name):
    return page.get_by_role("combobox", name=name)


def sections(page):
    return page.locator("section.item h3:visible").all_inner_texts()


def test_a_click_on_a_heading_sorts_both_ways(open_page, html):
    page = open_page(html)
    table = page.get_by_role("table", name="Order", exact=True)
    seconds = table.locator("th").nth(1)
    assert seconds.get_attribute("aria-sort") is None
    seconds.get_by_role("button").click()
    assert seconds.get_attribute("aria-sort") == "descending"
    assert columns(page, "Order", 1) == ["10 s", "9 s", "1e-7 s", "never", "–"]
    seconds.get_by_role("button").click()
    assert seconds.get_attribute("aria-sort") == "ascending"
    assert columns(page, "Order", 1) == ["1e-7 s", "9 s", "10 s", "never", "–"]
    names = table.locator("th").nth(0)
    names.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert names.get_attribute("aria-sort") == "ascending"
    assert seconds.get_attribute("aria-sort") is None
    assert columns(page, "Order", 0) == ["a", "b9", "b10", "C", "d"]
    page.keyboard.press("Space")
    assert columns(page, "Order", 0) == ["d", "C", "b10", "b9", "a"]


def test_data_set_and_fusion_choose_what_is_shown(open_page, html):
    page = open_page(html)
    assert sections(page) == ["AUBC", "Order"]
    assert set(columns(page, "AUBC", 1)) == {"uniform"}
    page.get_by_role("radio", name="All").last.check()
    assert sections(page) == ["AUBC", "Order", "Wins, amcb fusion"]
    assert page.locator(".contents span:visible").all_inner_texts() == ["amcb fusion"]
    assert len(columns(page, "AUBC", 0)) == 12
    page.get_by_role("radio", name="features:two").check()
    assert sections(page) == ["AUBC", "Order", "Figure 5"]
    assert page.locator(".contents span:visible").count() == 0
    assert page.locator(".contents a:visible").all_inner_texts() == [
        "Learning curves", "AUBC", "Order", "Figure 5", "How this was made",
    ]  # fmt: skip
    assert set(columns(page, "AUBC", 0)) == {"features:two"}
    order = page.get_by_role("table", name="Order", exact=True)
    assert order.locator("th:visible").all_inner_texts() == ["name", "seconds", "features:two"]
    assert combobox(page, "Data set").input_value() == "1"
    page.get_by_role("radio", name="uniform").check()
    assert sections(page) == ["AUBC", "Order"]
    assert columns(page, "AUBC", 1) == ["uniform"] * 3
    page.get_by_role("radio", name="amcb").check()
    assert sections(page) == ["AUBC", "Order", "Figure 5"]
    assert combobox(page, "Fusion").input_value() == "1"
    page.get_by_role("radio", name="All").first.check()
    assert sections(page) == ["AUBC", "Order", "Wins, amcb fusion"]
    assert set(columns(page, "AUBC", 1)) == {"amcb"}


def test_a_click_in_the_legend_takes_a_line_away_and_back(open_page, html):
    page = open_page(html)
    assert drawn(page) == set(STRATEGIES)
    entry = page.get_by_role("button", name="rlmba")
    assert entry.get_attribute("aria-pressed") == "true"
    entry.click()
    assert drawn(page) == {"random", "badge"}
    assert entry.get_attribute("aria-pressed") == "false"
    page.get_by_role("radio", name="amcb").check()
    assert drawn(page) == {"random", "badge"}
    entry.focus()
    page.keyboard.press("Enter")
    assert drawn(page) == set(STRATEGIES)
    page.keyboard.press("Enter")  # the button is new, and yet in focus
    assert drawn(page) == {"random", "badge"}
    page.get_by_role("button", name="Hide all").click()
    assert drawn(page) == set()
    page.get_by_role("button", name="Show all").click()
    assert drawn(page) == set(STRATEGIES)


def test_the_point_under_the_pointer_tells_its_numbers(open_page, html, groups):
    page = open_page(html)
    tip = page.locator("#chart .tip")
    assert not tip.is_visible()
    mark = page.locator('#chart .line[data-name="badge"] .mark[data-labels="60"]')
    box = mark.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    values = group_of(groups, "one", "uniform", "badge").top1["mm"][:, 2]
    assert tip.locator("strong").inner_text() == "badge"
    assert tip.locator("dd").all_inner_texts() == [
        "60", f"{values.mean():.4f}", f"{values.std(ddof=1):.4f}", "3 (0, 1, 2)", "uniform", "test",
    ]  # fmt: skip
    page.mouse.move(5, 5)
    assert not tip.is_visible()


def test_heights_on_the_chart_are_the_figures(open_page, html, groups):
    page = open_page(html)
    marks = [
        (page.locator(f'#chart .line[data-name="{s}"] .mark[data-labels="{n}"]').bounding_box(), v)
        for s in STRATEGIES
        for n, v in zip(
            (20, 40, 60, 80), group_of(groups, "one", "uniform", s).top1["mm"].mean(0), strict=True
        )
    ]
    (low, bottom), (high, top) = marks[0], marks[-1]
    for box, value in marks:
        share = (low["y"] - box["y"]) / (low["y"] - high["y"])
        assert share == pytest.approx((value - bottom) / (top - bottom), abs=0.003)


def test_arrow_keys_go_from_point_to_point(open_page, html, groups):
    page = open_page(html)
    page.locator("#chart .canvas svg").focus()
    first = page.locator("#chart .tip dd").first
    page.keyboard.press("ArrowRight")
    assert first.inner_text() == "20"
    page.keyboard.press("ArrowRight")
    assert first.inner_text() == "40"
    name = page.locator("#chart .tip strong")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    best = max(
        STRATEGIES, key=lambda s: group_of(groups, "one", "uniform", s).top1["mm"][:, 1].mean()
    )
    assert name.inner_text() == best
    assert first.inner_text() == "40"
    page.keyboard.press("Escape")
    assert not page.locator("#chart .tip").is_visible()


def test_head_metric_and_all_fusions(open_page, html, groups):
    page = open_page(html)
    combobox(page, "Head").select_option("audio")
    page.locator("#chart .canvas svg").focus()
    page.keyboard.press("ArrowRight")
    shown = page.locator("#chart .tip strong").inner_text()
    values = group_of(groups, "one", "uniform", shown).top1["audio"][:, 0]
    assert page.locator("#chart .tip dd").nth(1).inner_text() == f"{values.mean():.4f}"
    combobox(page, "Metric").select_option("contributions")
    assert combobox(page, "Head").locator("option").all_inner_texts() == ["image", "audio"]
    assert "Shapley contribution" in page.locator("#chart svg text.name").last.inner_html()
    combobox(page, "Fusion").select_option("")
    assert page.locator("#chart .line").count() == 6
    dashes = {
        line.get_attribute("data-fusion"): line.locator(".stroke").get_attribute("stroke-dasharray")
        for line in page.locator("#chart .line").all()
    }
    assert dashes["uniform"] != dashes["amcb"]


def test_a_gap_is_no_line_and_one_seed_has_no_band(open_page, make_groups):
    (group,) = make_groups(("random",), seeds=(0,))
    values = group.top1["mm"].copy()
    values[0, 1] = float("nan")
    page = open_page(report([with_fields(group, metrics={"mm": {"top1": values}})]))
    assert page.locator("#chart .mark").count() == 3
    assert page.locator("#chart .stroke").get_attribute("d").count("M") == 2
    assert page.locator("#chart .band").count() == 0
    page.locator("#chart .canvas svg").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    details = page.locator("#chart .tip dd").all_inner_texts()
    assert (details[0], details[2]) == ("60", "– (one seed)")


def test_bands_are_one_deviation_to_each_side(open_page, html, groups):
    page = open_page(html)
    page.get_by_role("button", name="Hide all").click()
    page.get_by_role("button", name="badge").click()
    values = group_of(groups, "one", "uniform", "badge").top1["mm"]
    mean, sd = values.mean(axis=0), values.std(axis=0, ddof=1)
    edge = page.locator("#chart .band").get_attribute("d").strip("MZ").split("L")
    upper, lower = ([float(point.split()[1]) for point in part] for part in (edge[:4], edge[:3:-1]))
    marks = page.locator("#chart .mark").all()
    at = [float(m.get_attribute("transform").rstrip(")").split()[1]) for m in marks]
    scale = (at[0] - at[-1]) / (mean[-1] - mean[0])
    for t in range(4):
        assert at[t] - upper[t] == pytest.approx(sd[t] * scale, abs=0.3)
        assert lower[t] - at[t] == pytest.approx(sd[t] * scale, abs=0.3)


def test_downloads_are_what_they_say(open_page, html, groups):
    page = open_page(html)
    page.get_by_role("radio", name="features:two").check()
    page.get_by_role("radio", name="amcb").check()

    def downloaded(link):
        with page.expect_download() as waiting:
            link.click()
        return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()

    figure = page.locator("section", has=page.get_by_role("heading", name="Figure 5"))
    name, content = downloaded(figure.get_by_role("link", name="PNG"))
    assert (name, content) == ("figure5_features-two_amcb.png", PNG)
    name, content = downloaded(figure.get_by_role("link", name="CSV"))
    assert (name, content) == ("figure5_features-two_amcb.csv", b"labels,mean\n20,0.5\n")
    _, content = downloaded(page.get_by_role("link", name="CSV of these curves"))
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert {row["dataset"] for row in rows} == {"features:two"}
    assert len(rows) == len(STRATEGIES) * 4
    expected = group_of(groups, "two", "amcb", rows[0]["strategy"]).top1["mm"][:, 0].mean()
    assert float(rows[0]["mean"]) == pytest.approx(expected, rel=1e-4)


def test_a_png_is_drawn_from_an_svg(open_page):
    page = open_page(report(figures=[FigureData("f", "F", "", {"svg": SVG}, ("x",), [(1,)])]))
    with page.expect_download() as waiting:
        page.get_by_role("link", name="PNG").click()
    assert waiting.value.suggested_filename == "f.png"
    pixels = matplotlib.image.imread(waiting.value.path())
    assert pixels.shape[:2] == (40, 80)
    assert pixels[5, 5, :3].max() == 0.0


def test_hostile_names_are_harmless(open_page, make_groups):
    groups = make_groups(("random", "rlmba"), ("one", "two"))
    hostile = [
        replace(g, dataset=g.dataset + HOSTILE, strategy=HOSTILE + g.strategy) for g in groups
    ]
    table = TableData(HOSTILE, HOSTILE, (HOSTILE, "b"), ((Cell(HOSTILE), Cell("1", 1.0)),))
    page = open_page(report(hostile, [table], facts={HOSTILE: HOSTILE}, title=HOSTILE))
    assert page.title() == HOSTILE
    page.locator("#chart .canvas svg").focus()
    page.keyboard.press("ArrowRight")
    assert HOSTILE in page.locator("#chart .tip strong").inner_text()
    page.locator("#chart .entry").first.click()
    page.locator("th button").first.click()
    assert page.locator("#chart .line").count() == 1
    assert page.evaluate("window.harm") is None


def test_it_fits_a_phone_in_light_and_dark_and_on_paper(open_page, html):
    page = open_page(html, viewport={"width": 360, "height": 740}, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.emulate_media(media="print")
    assert page.evaluate(ground) == "rgb(255, 255, 255)" != dark
    assert not page.locator(".links:visible").count()
    page.emulate_media(media="screen", color_scheme="light")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    mark = page.locator('#chart .line[data-name="badge"] .mark').last
    mark.dispatch_event("pointerdown", page.evaluate(
        "e => { const b = e.getBoundingClientRect();"
        " return { bubbles: true, clientX: b.x + 2, clientY: b.y + 2 }; }",
        mark.element_handle(),
    ))  # fmt: skip
    page.locator("#chart .tip").wait_for()  # the chart is redrawn after a change of media
    tip = page.locator("#chart .tip").bounding_box()
    assert tip["x"] >= 0
    assert tip["x"] + tip["width"] <= 360


def test_without_scripts_everything_but_the_chart_is_there(open_page, html):
    page = open_page(html, java_script_enabled=False)
    assert sections(page) == ["AUBC", "Order", "Wins, amcb fusion", "Figure 5"]
    assert page.get_by_text("The chart needs JavaScript").is_visible()
    assert not page.locator(".bar").is_visible()
