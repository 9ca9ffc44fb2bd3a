from __future__ import annotations

import csv
import io
import json
import re

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from rich.console import Console

from rlmba.errors import RunFolderError, UsageError
from rlmba.experiments import make_report
from rlmba.experiments.palette import modality_colours
from rlmba.types import MULTIMODAL
from tests.helpers.bmmal_files import write_bmmal

from .conftest import top1_of

ONE = {
    "learning_curve.png",
    "contributions.png",
    "weights.png",
    "report.html",
    "table.md",
    "table.csv",
    "curves.csv",
    "report.json",
}


@pytest.fixture
def runs(write_run):
    return [
        write_run(f"{strategy}{seed}", strategy=strategy, level=level, fusion="adaptive", seed=seed)
        for strategy, level in (("random", 0.4), ("rlmba", 0.5))
        for seed in range(2)
    ]


@pytest.fixture
def report(runs, tmp_path):
    return make_report(runs, tmp_path / "out", figures=False)


def rows(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def final(level):
    return [top1_of(0, 3, seed, level) for seed in range(2)]


def content(folder):
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}


def printed(report, width=80):
    out = io.StringIO()
    console = Console(file=out, width=width)
    for table in report.tables():
        console.print(table)
    return out.getvalue()


def test_table_csv_is_exact(report):
    random, rlmba = rows(report.folder / "table.csv")
    assert (random["strategy"], rlmba["strategy"]) == ("random", "rlmba")
    assert {r["fusion"] for r in (random, rlmba)} == {"adaptive"}
    assert (rlmba["seeds"], rlmba["labels"], rlmba["on"]) == ("2", "80", "test")
    assert float(rlmba["top1_mean"]) == pytest.approx(np.mean(final(0.5)), abs=1e-12)
    assert float(rlmba["top1_sd"]) == pytest.approx(np.std(final(0.5), ddof=1), abs=1e-12)
    assert float(rlmba["top1_macro_mean"]) == pytest.approx(np.mean(final(0.5)) - 0.01, abs=1e-12)
    assert float(rlmba["train_seconds"]) == 2.0


def test_curves_csv_has_every_point(report):
    found = rows(report.folder / "curves.csv")
    for quantity, names in {
        "top1": {"mm", "image", "audio"},
        "ece": {"mm", "image", "audio"},
        "weights": {"image", "audio"},
        "fusion_weights": {"image", "audio"},
        "contributions": {"image", "audio"},
        "fairness_gap": {""},
        "balance": {""},
    }.items():
        points = [r for r in found if r["quantity"] == quantity]
        assert {r["name"] for r in points} == names
        assert len(points) == 2 * 4 * len(names)
    # Runs without a reward have no curve of it.
    assert not [r for r in found if r["quantity"] == "raw_reward"]
    (point,) = [
        r
        for r in found
        if (r["strategy"], r["quantity"], r["name"], r["labels"])
        == ("random", "top1", "audio", "60")
    ]
    expected = [top1_of(2, 2, seed, 0.4) for seed in range(2)]
    assert float(point["mean"]) == pytest.approx(np.mean(expected), abs=1e-12)
    assert float(point["sd"]) == pytest.approx(np.std(expected, ddof=1), abs=1e-12)


def test_markdown_ranks_by_aubc_and_names_the_fusion(report):
    text = (report.folder / "table.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["rlmba", "random"]
    assert all("adaptive" in line for line in lines[2:])
    mean, sd = np.mean(final(0.5)), np.std(final(0.5), ddof=1)
    assert f"{mean:.4f} ± {sd:.4f}" in lines[2]
    assert len({line.count("|") for line in lines}) == 1
    column = [cell.strip() for cell in lines[0].split("|")].index("largest class")
    assert [line.split("|")[column].strip() for line in lines[2:]] == ["0.2500"] * 2
    assert {row["largest_class"] for row in rows(report.folder / "table.csv")} == {"0.25"}
    assert "digits 0.250" in (report.folder / "tables" / "table1_adaptive.md").read_text()


def test_terminal_tables_fit_eighty_columns(report):
    text = printed(report)
    assert "…" not in text
    assert "digits: Top-1 on test (largest class 0.250)" in text
    assert max(map(len, text.splitlines())) <= 80
    assert f"{np.mean(final(0.5)):.3f}±{np.std(final(0.5), ddof=1):.3f}" in text
    assert "Mean ranks by AUBC, adaptive fusion" in " ".join(text.split())
    (against,) = [line for line in text.splitlines() if line.startswith(" random   rlmba ")]
    # All differences are equal, so the exact test is used: p = 0.5 for two pairs.
    assert "+0.1000 ± 0.0000" in against
    assert against.split()[-1] == "ties"


def test_one_run_is_quick(write_run, tmp_path):
    made = make_report([write_run("a")], tmp_path / "out")
    assert set(content(tmp_path / "out")) == ONE
    assert {path.name for path in made.files} == ONE
    assert {path.name for path in made.paths} == ONE - {"report.json"}
    (row,) = rows(made.folder / "table.csv")
    assert row["top1_sd"] == ""
    table = (made.folder / "table.md").read_text()
    assert "±" not in "".join(line for line in table.splitlines() if line.startswith("|"))
    assert "seed 0 not finished, 3 of 8 rounds so far" in table
    (group,) = made.groups
    fused, *colours = modality_colours([MULTIMODAL, *group.modalities], MULTIMODAL).values()
    for name in ("learning_curve", "contributions", "weights"):
        image = matplotlib.image.imread(made.folder / f"{name}.png")[..., :3]
        for colour in colours if name != "learning_curve" else [fused, *colours]:
            there = np.abs(image - to_rgb(colour)).max(axis=-1) < 0.02
            assert there.sum() > 100, (name, colour)
    page = (made.folder / "report.html").read_text()
    assert page.count('<img src="data:image/png') == 3


def test_files_of_a_comparison(report):
    made = content(report.folder)
    assert set(made) == {path.relative_to(report.folder).as_posix() for path in report.files}
    kinds = [
        "table1", "table3", "aubc", "labels", "verdicts", "ranks", "wins", "fairness",
        "calibration", "against-random",
    ]  # fmt: skip
    assert set(made) == {"table.md", "table.csv", "curves.csv", "report.html", "report.json"} | {
        f"tables/{kind}_adaptive.{suffix}" for kind in kinds for suffix in ("md", "csv", "tex")
    }
    page = made["report.html"].read_text()
    for kind in kinds:
        title = made[f"tables/{kind}_adaptive.md"].read_text().splitlines()[0]
        assert title.removeprefix("## ") in page


@pytest.mark.slow
def test_the_same_runs_give_the_same_bytes(runs, tmp_path):
    before = make_report(runs, tmp_path / "out")
    old = {name: path.read_bytes() for name, path in content(before.folder).items()}
    assert sum(name.startswith("figures/") for name in old) == 4 * 5
    make_report(runs, tmp_path / "again")
    again = {name: path.read_bytes() for name, path in content(tmp_path / "again").items()}
    assert set(again) == set(old)
    assert [name for name in old if again[name] != old[name]] == []


def test_a_report_is_replaced_and_nothing_else(runs, tmp_path):
    out = tmp_path / "out"
    make_report(runs, out, figures=False)
    (out / "tables" / "mine.md").write_text("kept")
    (out / "report.json").write_text(
        json.dumps({"files": [*content(out), "../outside.txt", str(tmp_path / "absolute.txt")]})
    )
    for name in ("outside.txt", "absolute.txt"):
        (tmp_path / name).write_text("kept")
    (out / "tables" / "mine2.md").write_text("kept")
    make_report(runs[:1], out)
    assert set(content(out)) == ONE | {"tables/mine2.md"}
    assert (tmp_path / "outside.txt").exists()
    assert (tmp_path / "absolute.txt").exists()


def test_labels_are_compared_at_a_budget(runs, tmp_path):
    made = make_report(runs, tmp_path / "out", budget=40, figures=False)
    random, rlmba = rows(made.folder / "tables" / "table1_adaptive.csv")
    expected = np.mean([top1_of(0, 1, seed, 0.5) for seed in range(2)])
    assert float(rlmba["digits at 40"]) == pytest.approx(expected, abs=1e-12)
    assert float(random["digits at 40"]) == pytest.approx(expected - 0.1, abs=1e-12)
    with pytest.raises(UsageError, match=r"--budget 41: expected .* one of 20, 40, 60, 80"):
        make_report(runs, tmp_path / "none", budget=41)
    assert not (tmp_path / "none").exists()


def test_one_overview_a_data_set(write_run, tmp_path):
    folders = [
        write_run("wiki", dataset="features", data="wiki.npz", heads=("mm", "image", "text", "x"))
    ]
    folders += [write_run(s, strategy=s) for s in ("rlmba", "rlmba-x", "random")]
    folders += [write_run("short", grid=(20,), seed=1)]
    folders += [write_run("going", "rounds=7", strategy="margin")]
    made = make_report(folders, tmp_path / "out", figures=False)
    unfinished = "margin on digits under amcb fusion: seed 0 not finished, 3 of 7 rounds"
    assert unfinished in " ".join(printed(made).split())
    text = (made.folder / "table.md").read_text()
    assert re.findall(r"^## (\S+): Top-1", text, flags=re.M) == ["digits", "features:wiki"]
    assert unfinished in text
    table = (made.folder / "tables" / "table1_amcb.md").read_text()
    assert "digits at 20" in table
    assert "curves that end before 80 labels: rlmba [2] at 20" in table


def test_rounds_without_contributions_are_left_out(write_run, tmp_path):
    run = write_run("a")
    log = run / "rounds.jsonl"
    first, *rest = log.read_text().splitlines(keepends=True)
    share = '"contributions": {"image": 0.5, "audio": 0.5}'
    assert share in first
    log.write_text(first.replace(share, '"contributions": {}') + "".join(rest))
    made = make_report([run], tmp_path / "out")
    found = [r for r in rows(made.folder / "curves.csv") if r["quantity"] == "contributions"]
    assert {r["labels"] for r in found} == {"40", "60", "80"}


class TestTrees:
    """Folders that contain runs at some depth, like those of a comparison."""

    def test_runs_below_are_found(self, write_run, tmp_path):
        write_run("round0/digits/amcb/seed0", grid=(20,))
        for strategy in ("random", "rlmba"):
            write_run(f"cells/digits/amcb/{strategy}/seed0", strategy=strategy)
        failed = write_run("cells/digits/amcb/badge/seed0", strategy="badge", grid=(20, 40))
        (failed / "failure.json").write_text(json.dumps({"error": "MemoryError: too large"}))
        broken = tmp_path / "runs/cells/digits/amcb/bald/seed0"
        broken.mkdir(parents=True)
        (broken / "failure.json").write_text("{")
        write_run("cells/digits/amcb/entropy/seed0", strategy="entropy", grid=(), tail="{")
        made = make_report(
            [tmp_path / "runs", tmp_path / "runs" / "cells"], tmp_path / "out", figures=False
        )
        assert [g.strategy for g in made.groups] == ["random", "rlmba"]
        assert [g.seeds for g in made.groups] == [(0,), (0,)]
        reasons = sorted(
            line.split(f"{tmp_path}/runs/cells/digits/amcb/", 1)[1] for line in made.skipped
        )
        assert reasons == [
            "badge/seed0 failed: MemoryError: too large",
            f"bald/seed0 failed: see {broken / 'failure.json'}",
            "entropy/seed0 has no complete round yet",
        ]
        assert "MemoryError: too large" in (made.folder / "report.html").read_text()
        # One seed: there is no p value, and a note says so.
        text = (made.folder / "tables" / "verdicts_amcb.md").read_text()
        assert "one seed, so no p value" in text
        assert text.splitlines()[4].split("|")[-2].strip() == "—"

    def test_runs_of_bmmals_code_stand_beside_ours(self, write_run, tmp_path):
        write_run(
            "ours", dataset="kineticssound", data_root="clips", strategy="random", fusion="concat"
        )
        write_bmmal(tmp_path / "runs")
        made = make_report([tmp_path / "runs"], tmp_path / "out", figures=False)
        table = (made.folder / "tables" / "table1_concat.md").read_text()
        assert [line.split("|")[1].strip() for line in table.splitlines()[4:6]] == [
            "random",
            "bmmal [1]",
        ]
        assert "BMMAL's code" in table
        timed = (made.folder / "tables" / "table3_concat.md").read_text()
        assert timed.splitlines()[5].split("|")[3].strip() == "—"  # it does not tell prediction
        # Its conditions are unknown, so nothing is paired with it.
        assert not (made.folder / "tables" / "ranks_concat.md").exists()

    def test_a_tree_without_runs(self, write_run, tmp_path):
        failed = write_run("cells/a")
        (failed / "failure.json").write_text(json.dumps({"error": "KeyError: x"}))
        with pytest.raises(
            RunFolderError, match=r"contains none that can be reported: .*KeyError: x"
        ):
            make_report([tmp_path / "runs"], tmp_path / "out")
        # If it is named directly, its complete rounds are reported.
        assert make_report([failed], tmp_path / "out").groups[0].labels[-1] == 80


def test_errors_leave_nothing_behind(write_run, tmp_path):
    (tmp_path / "foreign").mkdir()
    with pytest.raises(RunFolderError, match="not a run folder"):
        make_report([tmp_path / "foreign"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UsageError, match="found a file"):
        make_report([write_run("a")], tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
