"""Figures of groups other than Top-1, and notes on their runs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from rlmba.errors import RunFolderError, UsageError
from rlmba.experiments import group_runs
from rlmba.runfolder.store import read_run
from tests.helpers.made_groups import make_group

from .conftest import top1_of


def groups(*folders, strict=False):
    return group_runs([read_run(folder) for folder in folders], strict=strict)


def change_rounds(folder, change):
    """Rewrite a folder's records with ``change``."""
    path = folder / "rounds.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        change(record)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def change_info(folder, **values):
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_every_figure_of_every_head(write_run):
    def rewards(record):
        record["raw_reward"] = None if record["round"] == 0 else record["round"] / 10

    folders = [write_run(f"r{s}", seed=s) for s in range(2)]
    for folder in folders:
        change_rounds(folder, rewards)
    (group,) = groups(*folders)
    for head in ("mm", "image", "audio"):
        np.testing.assert_array_equal(group.metrics[head]["nll"], np.full((2, 4), 1.0))
        np.testing.assert_array_equal(group.metrics[head]["ece"], np.full((2, 4), 0.1))
        np.testing.assert_array_equal(group.metrics[head]["top1"], group.top1[head])
        np.testing.assert_array_equal(group.metrics[head]["top1_macro"], group.top1_macro[head])
        for unknown in ("f1", "auroc"):
            assert group.metrics[head][unknown].shape == (2, 4)
            assert np.isnan(group.metrics[head][unknown]).all()
    np.testing.assert_array_equal(group.raw_reward, [[np.nan, 0.1, 0.2, 0.3]] * 2)
    expected = [[top1_of(1, t, s, 0.5) - top1_of(2, t, s, 0.5) for t in range(4)] for s in range(2)]
    np.testing.assert_allclose(group.fairness_gap, expected, rtol=0, atol=1e-15)
    p = 0.5 + 0.02 * np.arange(4)
    evenness = -(p * np.log(p) + (1 - p) * np.log(1 - p)) / np.log(2)
    np.testing.assert_allclose(group.balance, [evenness] * 2, rtol=0, atol=1e-14)


def test_balance_and_gap_at_the_edges():
    def group(*shares):
        top1 = np.full((1, 1), 0.5)
        heads = {"mm": top1, **{f"m{i}": top1 - 0.1 * i for i in range(len(shares))}}
        return replace(
            make_group("x", top1, labels=(20,)),
            top1=heads,
            contributions={f"m{i}": np.full((1, 1), share) for i, share in enumerate(shares)},
        )

    assert group(1.0, 0.0).balance == 0
    assert group(0.25, 0.25, 0.25, 0.25).balance == pytest.approx(1)
    assert group(2.0, 2.0).balance == pytest.approx(1)
    assert group(0.7).balance == 1
    assert group(0.7).fairness_gap == 0
    assert group(0.2, 0.2, 0.6).fairness_gap == pytest.approx(0.2)
    assert np.isnan(group(0.0, 0.0).balance).all()
    assert np.isnan(group(0.5, np.nan).balance).all()
    none = make_group("x", np.full((2, 3), 0.5))
    assert none.balance.shape == none.fairness_gap.shape == none.raw_reward.shape == (2, 3)
    assert np.isnan(none.balance).all()
    assert np.isnan(none.fairness_gap).all()
    assert np.isnan(none.metrics["mm"]["nll"]).all()


def test_modalities_are_compared_on_the_samples_that_have_them(write_run):
    """Audio is present only in easy samples, on which the fused head gains as much as audio does."""

    def easier(record):
        for on in ("validation", "test"):
            heads = record[on]["heads"]
            gain = 0.25
            heads["audio"]["top1"] = heads["image"]["top1"] + gain
            heads["audio"] |= {"samples": 30, "fused_top1": heads["mm"]["top1"] + gain}

    folder = write_run("a")
    before = groups(folder)[0]
    change_rounds(folder, easier)
    group = groups(folder)[0]
    assert before.fairness_gap.min() > 0.1
    np.testing.assert_allclose(group.fairness_gap, 0, atol=1e-12)
    np.testing.assert_allclose(group.top1["audio"] - group.top1["image"], 0.25)


def test_a_label_names_the_strategy_and_does_not_average_over_strategies(write_run):
    found = groups(
        write_run("a", label="no AMCB"),
        write_run("b", seed=1, label="no AMCB"),
        write_run("c", seed=2, label="no AMCB", strategy="random"),
        write_run("d", seed=3),
    )
    assert [(g.strategy, g.seeds) for g in found] == [
        ("no AMCB", (0, 1)),
        ("no AMCB", (2,)),
        ("rlmba", (3,)),
    ]
    assert [g.variant for g in found] == ["strategy=rlmba", "strategy=random", ""]


def test_where_round_0_and_baselines_lie_does_not_separate(write_run):
    def run(seed):
        return write_run(
            f"r{seed}",
            "reward.kind=relative",
            f"reward.curves=[out/badge/seed{seed}]",
            f"round0=out/round0/seed{seed}",
            f"initial_ids=ids/{seed}.txt",
            seed=seed,
        )

    (group,) = groups(run(0), run(1))
    assert group.seeds == (0, 1)
    assert group.options["initial_ids"] == "given"
    settings = ("reward.kind=relative", "initial_ids=ids/3.txt")
    other = write_run("o", "reward.curves=[out/bmmal/seed3]", *settings, seed=3)
    assert [g.seeds for g in groups(run(2), other)] == [(2,), (3,)]


def test_other_data_under_the_same_name_is_not_averaged(write_run):
    folders = [write_run(f"r{s}", seed=s) for s in range(3)]
    for folder, checksum in zip(folders, ("a" * 32, "b" * 32, "a" * 32), strict=True):
        change_info(folder, fingerprint=checksum)
    first, second = groups(*folders)
    assert (first.seeds, second.seeds) == ((0, 2), (1,))
    assert second.variant == "data checksum=bbbbbbbbbbbb"


@pytest.mark.parametrize("value", ["NaN", "null", "Infinity"])
def test_an_accuracy_that_is_no_number_is_an_error_that_says_where(write_run, value):
    folder = write_run("a")

    def damage(record):
        if record["round"] == 2:
            record["test"]["heads"]["audio"]["top1"] = json.loads(value)

    change_rounds(folder, damage)
    with pytest.raises(RunFolderError, match=r"rounds.jsonl, line 3 is damaged.*found"):
        groups(folder)


def test_f1_may_be_unknown_of_one_head(write_run):
    folder = write_run("a")
    change_rounds(folder, lambda record: record["test"]["heads"]["image"].update(f1=0.5))
    (group,) = groups(folder)
    assert np.isnan(group.metrics["mm"]["f1"]).all()
    assert not np.isnan(group.metrics["image"]["f1"]).any()


def test_f1_and_auroc_where_runs_have_them(write_run):
    old, new = write_run("a"), write_run("b", seed=1)
    change_rounds(
        new, lambda r: r["test"]["heads"]["image"].update(f1=0.25, auroc=0.5 + r["round"])
    )
    (group,) = groups(old, new)
    np.testing.assert_array_equal(group.metrics["image"]["f1"], [[np.nan] * 4, [0.25] * 4])
    np.testing.assert_array_equal(
        group.metrics["image"]["auroc"], [[np.nan] * 4, [0.5, 1.5, 2.5, 3.5]]
    )
    assert np.isnan(group.metrics["mm"]["f1"]).all()


def test_unfinished_runs_are_said(write_run):
    (group,) = groups(
        write_run("a", "rounds=3"),
        *(write_run(f"b{s}", "rounds=5", seed=s) for s in (7, 2, 3, 4)),
        write_run("d", "rounds=4", seed=8, tail='{"round": 4, "lab'),
    )
    assert group.notes == (
        "rlmba on digits under amcb fusion: seed 8 not finished, 3 of 4 rounds so far",
        "rlmba on digits under amcb fusion: seeds 2 to 4, 7 not finished, 3 of 5 rounds so far",
    )


def test_versions_of_the_code_are_said(write_run):
    folders = [write_run(f"r{s}", "rounds=3", seed=s) for s in range(2)]
    (group,) = groups(*folders)
    assert (group.versions, group.notes) == (("test",), ())
    change_info(folders[1], rlmba="0.2")
    (group,) = groups(*folders)
    assert group.versions == ("0.2", "test")
    assert group.notes == (
        "rlmba on digits under amcb fusion: runs of several versions of rlmba: 0.2, test",
    )


def test_strict_takes_an_error_for_each_doubt(write_run):
    def other(name, *settings, seed=0):
        return write_run(name, "rounds=3", *settings, strategy="random", seed=seed)

    a, b = write_run("a", "rounds=3"), other("b")
    assert len(groups(a, b, strict=True)) == 2
    with pytest.raises(UsageError, match=r"seeds differ: rlmba.* \[0\], random.* \[5\]"):
        groups(a, other("c", seed=5), strict=True)
    with pytest.raises(UsageError, match=r"epochs = 15 \(rlmba\), 3 \(random\)"):
        groups(a, other("d", "epochs=3"), strict=True)
    with pytest.raises(UsageError, match=r"random on digits .* 3 of 9 rounds so far"):
        groups(a, other("e", "rounds=9"), strict=True)
    change_info(b, rlmba="0.2")
    with pytest.raises(UsageError, match=r"0.2 \(random\), test \(rlmba\)"):
        groups(a, b, strict=True)
    assert len(groups(a, b)) == 2
