from __future__ import annotations

import numpy as np
import pytest

from rlmba.errors import RunFolderError, UsageError
from rlmba.experiments import group_runs
from rlmba.runfolder.store import read_run

from .conftest import top1_of


def groups(*folders):
    return group_runs([read_run(folder) for folder in folders])


def test_seeds_are_averaged_whatever_their_order(write_run):
    (group,) = groups(*(write_run(f"r{s}", seed=s) for s in (2, 0, 1)))
    assert group.seeds == (0, 1, 2)
    np.testing.assert_array_equal(group.labels, [20, 40, 60, 80])
    expected = [[top1_of(1, t, s, 0.5) for t in range(4)] for s in range(3)]
    np.testing.assert_allclose(group.top1["image"], expected, rtol=0, atol=1e-15)
    np.testing.assert_allclose(group.top1_macro["image"], np.subtract(expected, 0.01), atol=1e-15)
    aubc = [np.mean([top1_of(0, t, s, 0.5) for t in range(4)]) for s in range(3)]
    np.testing.assert_allclose(group.aubc, aubc, atol=1e-15)
    assert group.modalities == ("image", "audio")
    assert (group.variant, group.on) == ("", "test")
    np.testing.assert_allclose(group.contributions["audio"][0], [0.5, 0.48, 0.46, 0.44])
    np.testing.assert_allclose(group.fusion_weights["audio"], 0.5)
    # Round 0 selects nothing: seconds are means over rounds with a query.
    np.testing.assert_allclose(group.seconds["select"], 0.25 * np.mean([1, 2, 3]))
    np.testing.assert_allclose(group.seconds["train"], 2.0)


@pytest.mark.parametrize("key", ["strategy", "fusion", "predictor"])
def test_names_separate_groups(write_run, key):
    other = {"strategy": "random", "fusion": "concat", "predictor": "pooled"}[key]
    a, b = groups(write_run("a"), write_run("b", seed=1, **{key: other}))
    assert getattr(b, key) == other
    assert a.variant == b.variant == ""
    assert other in b.name


def test_options_that_differ_are_never_averaged_and_are_said(write_run):
    found = groups(
        write_run("a"),
        write_run("b", "amcb.enabled=false", seed=1),
        write_run("c", "amcb.enabled=false", "strategy_options.baseline=moving", seed=2),
    )
    assert [g.variant for g in found] == [
        "amcb.enabled=True, strategy_options.baseline=unset, strategy_options.uncertainty=unset",
        "amcb.enabled=False, strategy_options.baseline=unset, strategy_options.uncertainty=unset",
        "amcb.enabled=False, strategy_options.baseline=moving, strategy_options.uncertainty=variance",
    ]
    assert "amcb.enabled=False" in found[1].name


def test_what_cannot_change_a_figure_does_not_separate(write_run):
    (group,) = groups(
        write_run("a"), write_run("b", "device=cpu", "tracking=[tensorboard]", "rounds=5", seed=1)
    )
    assert len(group.seeds) == 2


def test_other_numbers_of_labels_are_a_group_of_their_own(write_run):
    whole, part = groups(write_run("a"), write_run("b", seed=1, grid=(20, 40)))
    assert whole.variant == "labels 20 to 80 in 4 rounds"
    assert part.variant == "labels 20 to 40 in 2 rounds"
    same_ends = groups(write_run("c"), write_run("d", seed=1, grid=(20, 80)))
    assert [g.seeds for g in same_ends] == [(0,), (1,)]


def test_data_sets_are_named_with_their_file(write_run):
    found = groups(
        write_run("a", dataset="features", data="x/wiki.npz"),
        write_run("b", dataset="features", data="ccv.npz"),
        write_run("c", dataset="features", data="elsewhere/wiki.npz", seed=1),
    )
    assert [(g.dataset, g.seeds) for g in found] == [
        ("features:ccv", (0,)),
        ("features:wiki", (0, 1)),
    ]


def test_validation_figures_where_there_is_no_test_set(write_run):
    (group,) = groups(write_run("a", test=False))
    assert group.on == "validation"
    np.testing.assert_allclose(group.top1["mm"][0, 0], top1_of(0, 0, 0, 0.5) - 0.05)
    a, b = groups(write_run("b"), write_run("c", seed=1, test=False))
    assert (a.variant, b.variant) == ("on test", "on validation")


def test_a_run_that_is_being_written_is_read_up_to_its_last_whole_line(write_run):
    (group,) = groups(write_run("a", tail='{"round": 4, "labels": 1'))
    assert group.labels[-1] == 80


def test_errors(write_run):
    with pytest.raises(UsageError, match="at least one run"):
        group_runs([])
    with pytest.raises(
        UsageError, match=r"seed 0 of digits, rlmba, amcb, fused was found twice, in .*a "
    ):
        groups(write_run("a"), write_run("b"))
    with pytest.raises(RunFolderError, match="no complete round yet"):
        groups(write_run("c", grid=()))
    with pytest.raises(RunFolderError, match=r"expected the heads \['mm', 'image', 'audio'\]"):
        groups(write_run("d"), write_run("e", seed=1, heads=("mm", "image", "text")))
