from __future__ import annotations

import csv
import io

import matplotlib.image
import numpy as np
import pytest
from rich.console import Console

from rlmba.errors import RunFolderError, UsageError
from rlmba.experiments import make_report

from .conftest import top1_of


@pytest.fixture
def report(write_run, tmp_path):
    runs = [
        write_run(f"{strategy}{seed}", strategy=strategy, level=level, fusion="adaptive", seed=seed)
        for strategy, level in (("random", 0.4), ("rlmba", 0.5))
        for seed in range(2)
    ]
    return make_report(runs, tmp_path / "out")


def rows(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def final(level):
    return [top1_of(0, 3, seed, level) for seed in range(2)]


def test_files_are_those_announced(report, tmp_path):
    names = {path.name for path in report.paths}
    assert names == {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "learning_curve.png",
        "contributions.png",
        "weights.png",
        "table.md",
        "table.csv",
        "curves.csv",
    }


def test_table_csv_is_exact(report):
    random, rlmba = rows(report.table_csv)
    assert (random["strategy"], rlmba["strategy"]) == ("random", "rlmba")
    assert {r["fusion"] for r in (random, rlmba)} == {"adaptive"}
    assert (rlmba["seeds"], rlmba["labels"], rlmba["on"]) == ("2", "80", "test")
    assert float(rlmba["top1_mean"]) == pytest.approx(np.mean(final(0.5)), abs=1e-12)
    assert float(rlmba["top1_sd"]) == pytest.approx(np.std(final(0.5), ddof=1), abs=1e-12)
    assert float(rlmba["top1_macro_mean"]) == pytest.approx(np.mean(final(0.5)) - 0.01, abs=1e-12)
    assert float(rlmba["train_seconds"]) == 2.0


def test_curves_csv_has_every_point(report):
    found = rows(report.curves_csv)
    per_group = 4 * (3 + 3 + 2 + 2 + 2)
    assert len(found) == 2 * per_group
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
    lines = [line for line in report.table_md.read_text().splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["rlmba", "random"]
    assert all("adaptive" in line for line in lines[2:])
    mean, sd = np.mean(final(0.5)), np.std(final(0.5), ddof=1)
    assert f"{mean:.4f} ± {sd:.4f}" in lines[2]
    assert len({line.count("|") for line in lines}) == 1


def test_terminal_tables_fit_eighty_columns(report):
    out = io.StringIO()
    console = Console(file=out, width=80)
    for table in report.tables():
        console.print(table)
    text = out.getvalue()
    assert "…" not in text
    assert f"{np.mean(final(0.5)):.3f}±{np.std(final(0.5), ddof=1):.3f}" in text


def test_one_seed_has_no_spread(write_run, tmp_path):
    made = make_report([write_run("a")], tmp_path / "out")
    (row,) = rows(made.table_csv)
    assert row["top1_sd"] == ""
    assert "±" not in made.table_md.read_text().split("\nAccuracies")[0]


def test_figures_show_each_group_in_its_colour(report):
    image = matplotlib.image.imread(report.learning_curves[0])[..., :3]
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
        near = np.abs(image - np.divide(colour, 255)).max(axis=-1) < 0.02
        assert near.sum() > 200


def test_the_same_runs_give_the_same_bytes(report, write_run, tmp_path):
    before = [path.read_bytes() for path in report.paths]
    runs = [tmp_path / "runs" / f"{s}{i}" for s in ("random", "rlmba") for i in range(2)]
    again = make_report(runs, tmp_path / "out")
    assert [path.read_bytes() for path in again.paths] == before


def test_one_figure_a_data_set_and_many_groups(write_run, tmp_path):
    runs = [
        write_run("wiki", dataset="features", data="wiki.npz", heads=("mm", "image", "text", "x"))
    ]
    runs += [write_run(s, strategy=s) for s in ("rlmba", "rlmba-x", "random", "entropy", "margin")]
    runs += [write_run("short", grid=(20,), seed=1)]
    made = make_report(runs, tmp_path / "out")
    assert [p.name for p in made.learning_curves] == [
        "learning_curve_digits.png",
        "learning_curve_features-wiki.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made.learning_curves)
    assert made.table_md.read_text().count("\n## ") + 1 == 2


def test_rounds_without_contributions_are_left_out(write_run, tmp_path):
    run = write_run("a")
    log = run / "rounds.jsonl"
    first, *rest = log.read_text().splitlines(keepends=True)
    share = '"contributions": {"image": 0.5, "audio": 0.5}'
    assert share in first
    log.write_text(first.replace(share, '"contributions": {}') + "".join(rest))
    made = make_report([run], tmp_path / "out")
    found = [r for r in rows(made.curves_csv) if r["quantity"] == "contributions"]
    assert {r["labels"] for r in found} == {"40", "60", "80"}


def test_errors_leave_nothing_behind(write_run, tmp_path):
    (tmp_path / "foreign").mkdir()
    with pytest.raises(RunFolderError, match="not a run folder"):
        make_report([tmp_path / "foreign"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UsageError, match="is a file"):
        make_report([write_run("a")], tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
