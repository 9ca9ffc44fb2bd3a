"""Reading run folders of BMMAL's code, and comparing them with ours."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest

from rlmba.errors import RunFolderError, UsageError
from rlmba.experiments.find_runs import read_groups
from rlmba.experiments.foreign import group_bmmal, is_bmmal_run, read_bmmal_run
from rlmba.experiments.statistics import compare_to
from rlmba.training import evaluate
from rlmba.types import PoolOutputs
from tests.helpers.bmmal_files import SAMPLES, predictions, write_bmmal


def ours(seed, round_):
    """Our figures of the predictions behind a folder."""
    (mm, video, audio), y = predictions(seed, round_)
    nothing = np.zeros((SAMPLES, 1), np.float32)
    outputs = PoolOutputs(
        ids=np.array([f"s{i}" for i in range(SAMPLES)]),
        features={"video": nothing, "audio": nothing},
        logits={"video": video, "audio": audio},
        fused_features=nothing,
        fused_logits=mm,
    )
    return evaluate(outputs, y, n_bins=32).heads


def test_figures_are_those_of_our_evaluation(tmp_path):
    run = read_bmmal_run(write_bmmal(tmp_path))
    assert (run.dataset, run.strategy, run.seed) == ("kineticssound", "bmmal", 1000)
    assert (run.fusion, run.unfinished) == ("concat", None)
    assert run.labels == (20, 40, 60, 80)
    assert list(run.figures) == ["mm", "video", "audio"]
    for t in range(4):
        for head, figures in ours(1000, t).items():
            for name in ("top1_macro", "f1", "auroc", "ece"):
                expected = getattr(figures, name)
                assert run.figures[head][name][t] == pytest.approx(expected, abs=2e-6)
    assert run.contributions["video"] == pytest.approx((0.6, 0.59, 0.58, 0.57))
    assert math.isnan(run.seconds[0])
    assert run.seconds[1:] == (1011.0, 1012.0, 1013.0)


def test_seeds_become_a_group(tmp_path):
    folders = [write_bmmal(tmp_path, seed=s) for s in (3, 1, 2)]
    (group,) = group_bmmal([read_bmmal_run(f) for f in folders])
    assert group.seeds == (1, 2, 3)
    assert (group.dataset, group.strategy, group.variant) == (
        "kineticssound",
        "bmmal",
        "BMMAL's code",
    )
    assert (group.fusion, group.predictor, group.on) == ("concat", "fused", "test")
    assert group.modalities == ("video", "audio")
    expected = [[ours(s, t)["mm"].top1_macro for t in range(4)] for s in (1, 2, 3)]
    np.testing.assert_allclose(group.top1["mm"], expected, atol=2e-6)
    np.testing.assert_array_equal(group.top1_macro["mm"], group.top1["mm"])
    np.testing.assert_allclose(group.aubc, np.mean(expected, axis=1), atol=2e-6)
    np.testing.assert_allclose(
        group.metrics["audio"]["auroc"][0, 2], ours(1, 2)["audio"].auroc, atol=2e-6
    )
    assert np.isnan(group.metrics["mm"]["nll"]).all()
    assert np.isnan(group.weights["video"]).all()
    assert np.isnan(group.raw_reward).all()
    assert np.isfinite(group.balance).all()
    np.testing.assert_allclose(group.seconds["select"], [13.0, 14.0, 15.0])
    assert np.isnan(group.seconds["train"]).all()
    assert group.options == {}
    (note,) = group.notes
    assert "macro" in note


def test_names(tmp_path):
    def read(**options):
        return read_bmmal_run(write_bmmal(tmp_path, **options, rounds=2))

    gcn, uncertain = read(strategy="gcn"), read(strategy="uncertain_gcn")
    assert (gcn.strategy, gcn.variant) == ("gcnal", "BMMAL's code")
    assert (uncertain.strategy, uncertain.variant) == ("gcnal", "BMMAL's code, variant=uncertain")
    assert len(group_bmmal([gcn, uncertain])) == 2
    food = read(dataset="food101", strategy="badge", seed=5)
    assert (food.dataset, food.strategy, food.seed) == ("food101", "badge", 5)
    assert list(food.figures) == ["mm", "text", "image"]
    assert read(strategy="random", seed=7, fuse="sum").fusion == "sum"
    # A folder with another name is described by the settings of its last round.
    renamed = read(strategy="coreset", seed=9, name="mine")
    assert (renamed.dataset, renamed.strategy, renamed.seed) == ("kineticssound", "coreset", 9)
    silent = write_bmmal(tmp_path, name="silent", settings=False, rounds=2)
    with pytest.raises(UsageError, match="its dataset is unknown; name the folder <data set>-"):
        read_bmmal_run(silent)
    given = read_bmmal_run(silent, dataset="digits", strategy="mine", seed=0)
    assert (given.dataset, given.strategy, given.seed, given.fusion) == (
        "digits",
        "mine",
        0,
        "concat",
    )
    link = tmp_path / "vggsound-badge-12"
    link.symlink_to(silent)
    linked = read_bmmal_run(link)
    assert (linked.dataset, linked.strategy, linked.seed) == ("vggsound", "badge", 12)
    assert list(linked.figures) == ["mm", "video", "audio"]


def test_runs_of_unequal_length_are_apart(tmp_path):
    long, short = write_bmmal(tmp_path, seed=1), write_bmmal(tmp_path, seed=2, rounds=2)
    groups = group_bmmal([read_bmmal_run(f) for f in (long, short)])
    assert [g.variant for g in groups] == [
        "BMMAL's code, labels 20 to 80 in 4 rounds",
        "BMMAL's code, labels 20 to 40 in 2 rounds",
    ]


def test_a_seed_twice(tmp_path):
    folder = write_bmmal(tmp_path)
    copy = tmp_path / "copy" / folder.name
    shutil.copytree(folder, copy)
    with pytest.raises(UsageError, match=r"seed 1000 of bmmal on kineticssound .* was found twice"):
        group_bmmal([read_bmmal_run(folder), read_bmmal_run(copy)])


def test_a_round_in_flight_is_left_out_and_said(tmp_path):
    folder = write_bmmal(tmp_path)
    (folder / "version_3" / "al_metrics.csv").unlink()
    run = read_bmmal_run(folder)
    assert (run.labels, run.unfinished) == ((20, 40, 60), 3)
    (group,) = group_bmmal([run])
    assert any("seed 1000 is not finished, round 3" in note for note in group.notes)


def test_seconds_that_were_not_measured_are_unknown(tmp_path):
    """Evaluating stored models again (--test) writes query times of 0."""
    folder = write_bmmal(tmp_path)
    file = folder / "version_3" / "al_metrics.csv"
    lines = [line.rpartition(",") for line in file.read_text().splitlines()]
    file.write_text("".join(f"{a},{b if k == 0 else 0}\n" for k, (a, _, b) in enumerate(lines)))
    (group,) = group_bmmal([read_bmmal_run(folder)])
    assert np.isnan(group.seconds["select"]).all()


def change(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def cut(file, characters):
    file.write_text(file.read_text()[:-characters])


def top1(folder, value):
    """Replace the fused head's Top-1 of round 2."""
    file = folder / "version_3" / "al_metrics.csv"
    lines = [line.split(",") for line in file.read_text().splitlines()]
    lines[3][lines[0].index("MM/Top-1")] = value
    file.write_text("".join(",".join(line) + "\n" for line in lines))


LAST, SETTINGS = "version_3/al_metrics.csv", "version_3/hparams.yaml"
DAMAGE = {
    "cut off within a number": (lambda f: cut(f / LAST, 2), "a line is truncated"),
    "cut off within a line": (lambda f: cut(f / LAST, 200), "a line is truncated"),
    "cut off within the header": (
        lambda f: (f / LAST).write_text(",MM/Top-1,MM/F1"),
        "expected the columns",
    ),
    "empty": (lambda f: (f / LAST).write_text(""), "expected the columns"),
    "of another program": (
        lambda f: (f / LAST).write_text("epoch,step\n0,9\n"),
        "expected the columns MM/Top-1",
    ),
    "a row missing": (lambda f: change(f / LAST, "round 1,", "round 5,"), "rounds are missing"),
    "a folder missing": (
        lambda f: shutil.rmtree(f / "version_1"),
        r"version_1/label\.txt is missing",
    ),
    "labels missing": (
        lambda f: (f / "version_2/label.txt").unlink(),
        "the number of labels in round 2 is unknown",
    ),
    "labels cut off": (lambda f: cut(f / "version_2/label.txt", 3), "its last line is truncated"),
    "labels going down": (
        lambda f: shutil.copy(f / "version_0/label.txt", f / "version_2/label.txt"),
        "expected the 40 ids of the previous round and new ones, got 20 ids, 20 are missing",
    ),
    "no new labels": (
        lambda f: shutil.copy(f / "version_1/label.txt", f / "version_2/label.txt"),
        "got 40 ids, none is new",
    ),
    "no labels": (lambda f: (f / "version_0/label.txt").write_text(""), "got 0 ids"),
    "labels of another data set": (
        lambda f: (f / "version_3/label.txt").write_text("pizza_pizza_1.jpg\npizza_pizza_2.jpg\n"),
        "60 are missing; the file belongs to another run",
    ),
    "an id twice": (
        lambda f: (f / "version_0/label.txt").write_text("a\nb\na\n"),
        "expected each id once, 1 repeat",
    ),
    "NaN accuracy": (
        lambda f: top1(f, "nan"),
        r"round 2: expected MM/Top-1 to be a number in .*, got nan",
    ),
    "no accuracy": (lambda f: top1(f, ""), "got nan"),
    "percent": (lambda f: top1(f, "51.3"), "got 51.3"),
    "a word": (lambda f: top1(f, "good"), "expected numbers"),
    "no text": (
        lambda f: (f / LAST).write_bytes(b"\xff\xfe\x00"),
        "line 1: expected text in UTF-8",
    ),
    "settings damaged": (lambda f: (f / SETTINGS).write_text("a: [1"), "is damaged"),
    "settings of another kind": (lambda f: (f / SETTINGS).write_text("- 1\n"), "settings by name"),
    "no figures yet": (
        lambda f: [file.unlink() for file in f.glob("*/al_metrics.csv")],
        r"has no al_metrics\.csv yet",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_folders(tmp_path, damage):
    folder = write_bmmal(tmp_path)
    harm, match = DAMAGE[damage]
    harm(folder)
    assert is_bmmal_run(folder)
    with pytest.raises(RunFolderError, match=match):
        read_bmmal_run(folder)


def test_other_folders(tmp_path, write_run):
    folder = write_bmmal(tmp_path)
    lightning = tmp_path / "lightning_logs" / "version_0"
    lightning.mkdir(parents=True)
    (lightning / "metrics.csv").write_text("epoch,step\n0,9\n")
    for other in (
        tmp_path,
        folder / "version_0",
        lightning.parent,
        write_run("a"),
        tmp_path / "no",
    ):
        assert not is_bmmal_run(other)
        with pytest.raises(RunFolderError, match="expected a run folder of BMMAL's code"):
            read_bmmal_run(other)
    with pytest.raises(RunFolderError, match=r"has no run\.json"):
        read_groups([folder, tmp_path])


def test_beside_our_runs(tmp_path, write_run):
    root = tmp_path / "KS"
    media = {"dataset": "kineticssound", "data_root": str(root)}
    own = write_run(
        "own", heads=("mm", "video", "audio"), fusion="concat", strategy="bmmal", **media
    )
    groups = read_groups([write_bmmal(tmp_path), own, write_bmmal(tmp_path, dataset="food101")])
    assert [(g.dataset, g.variant) for g in groups] == [
        ("food101", "BMMAL's code"),
        ("kineticssound:KS", ""),
        ("kineticssound:KS", "BMMAL's code"),
    ]
    assert [g.fusion for g in groups] == ["concat"] * 3
    alone = read_groups([write_bmmal(tmp_path, seed=4)])
    assert [g.dataset for g in alone] == ["kineticssound"]
    with pytest.raises(UsageError, match="expected at least one run folder"):
        read_groups([])


def test_never_paired_with_our_runs(tmp_path, write_run):
    """Names, fusion, labels and seeds agree, but Top-1 means something else, and conditions are unknown."""
    media = {"dataset": "kineticssound", "data_root": str(tmp_path / "KS"), "fusion": "concat"}
    paths = [
        write_run(f"{s}{k}", heads=("mm", "video", "audio"), strategy=s, seed=k, level=at, **media)
        for k in (0, 1)
        for s, at in (("bmmal", 0.5), ("random", 0.4))
    ]
    theirs = [
        write_bmmal(tmp_path, strategy=s, seed=k) for k in (0, 1) for s in ("bmmal", "random")
    ]
    found = compare_to(read_groups([*paths, *theirs]), "random")
    assert [c.test.n for c in found] == [2, 2]
    # The predictions of both strategies are the same draw there.
    assert [c.test.difference for c in found] == pytest.approx([0.1, 0.0])
