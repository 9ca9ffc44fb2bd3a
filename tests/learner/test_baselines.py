"""The relative reward, from runs of the baselines to a run that is rewarded against them."""

from __future__ import annotations

import shutil
from statistics import fmean

import pytest

from rlmba.config import RELATIVE_TO, RunConfig
from rlmba.data import load_dataset
from rlmba.errors import RunFolderError, UsageError
from rlmba.learner import TrainedTogether, read_run, run
from rlmba.learner.baselines import baseline_curves
from rlmba.learner.settings import resolve


def change(config, **update):
    return RunConfig.model_validate(config.model_dump() | update)


BASE = {
    "dataset": "digits",
    "rounds": 2,
    "initial_labels": 20,
    "batch_size": 10,
    "epochs": 1,
    "fusion": "uniform",
    "model": {"width": 8},
    "device": "cpu",
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A comparison's folder: three baselines and random, two seeds, a round 0 aside, another fusion."""
    out = tmp_path_factory.mktemp("sweep")
    config = RunConfig.model_validate(BASE)
    cells = out / "cells" / "digits"
    for name in ("gcnal", "badge", "bmmal", "random"):
        for seed in (0, 1):
            options = {"epochs": 3} if name == "gcnal" else {}
            cell = change(config, strategy=name, seed=seed, strategy_options=options)
            run(cell, cells / "uniform" / name / f"seed{seed}")
    run(change(config, rounds=0), out / "round0" / "digits" / "uniform" / "seed0")
    other = change(config, strategy="badge", fusion="concat", epochs=2, rounds=0)
    run(other, cells / "concat" / "badge" / "seed0")
    return out


def resolved(curves, *, baselines=RELATIVE_TO, **update):
    reward = {"kind": "relative", "curves": [str(c) for c in curves], "baselines": baselines}
    config = change(RunConfig.model_validate(BASE), strategy="rlmba-x", reward=reward, **update)
    return resolve(config, load_dataset("digits"))[0]


def test_a_comparison_gives_one_curve_a_baseline_over_its_seeds(sweep):
    curves = baseline_curves(resolved([sweep]))
    assert len(curves) == 3
    cells = sweep / "cells" / "digits" / "uniform"
    for name in ("gcnal", "badge", "bmmal"):
        runs = [read_run(cells / name / f"seed{s}").records for s in (0, 1)]
        curve = {
            r.labels: fmean((r.validation.mm.top1, q.validation.mm.top1))
            for r, q in zip(*runs, strict=True)
        }
        assert curve in curves


@pytest.mark.slow
def test_a_run_is_rewarded_against_it(sweep, tmp_path):
    config = resolved([sweep])
    records = run(config, tmp_path / "r").records
    curves = baseline_curves(config)
    for r in records[1:]:
        expected = r.validation.mm.top1 - fmean(c[r.labels] for c in curves)
        assert r.raw_reward == pytest.approx(expected, abs=1e-12)
        assert r.reward == r.raw_reward
    # Resumed from its first round, it ends the same.
    torn = tmp_path / "torn"
    shutil.copytree(tmp_path / "r", torn)
    assert run(config, torn, resume=True).records == records


def test_other_baselines_are_named(sweep):
    cells = sweep / "cells" / "digits" / "uniform"
    one = [{r.labels: r.validation.mm.top1 for r in read_run(cells / "random" / "seed1").records}]
    assert baseline_curves(resolved([cells / "random" / "seed1"], baselines=["random"])) == one
    assert baseline_curves(resolved([cells / "random" / "seed1"], baselines=None)) == one
    two = [cells / "badge", cells / "bmmal" / "seed0"]
    assert len(baseline_curves(resolved(two, baselines=["bmmal", "badge"]))) == 2
    assert len(baseline_curves(resolved([sweep], baselines=["badge"]))) == 1


def test_a_mean_over_fewer_baselines_is_refused(sweep, tmp_path):
    cells = sweep / "cells" / "digits" / "uniform"
    with pytest.raises(
        UsageError,
        match=r"found none of gcnal, bmmal; create them with `rlmba compare --strategies gcnal,bmmal "
        r"--output DIR`.*only the baselines found, set reward\.baselines=\[badge\]",
    ):
        baseline_curves(resolved([cells / "badge"]))
    with pytest.raises(UsageError, match="found none of bmmal"):
        run(resolved([cells / "badge", cells / "gcnal"]), tmp_path / "r")
    assert not (tmp_path / "r").exists()
    with pytest.raises(
        UsageError, match=r"seed1 is a run of random, and reward\.baselines is .gcnal"
    ):
        baseline_curves(resolved([sweep, cells / "random" / "seed1"]))
    with pytest.raises(UsageError, match="found none of entropy"):
        baseline_curves(resolved([sweep], baselines=["badge", "entropy"]))
    with pytest.raises(ValueError, match="expected one or more strategies"):
        resolved([sweep], baselines=[])


def test_training_a_policy_needs_all_baselines_too(sweep):
    cells = sweep / "cells" / "digits" / "uniform"
    with pytest.raises(UsageError, match="found none of gcnal, bmmal"):
        TrainedTogether.build([resolved([cells / "badge"])])


@pytest.mark.parametrize(
    ("update", "match"),
    [
        ({"epochs": 2}, r"epochs=1 there and 2 here"),
        ({"batch_size": 5}, r"batch_size=10 there and 5 here"),
        ({"model": {"width": 16}}, r"model\.width=8 there and 16 here"),
        (
            {"training": {"learning_rate": 0.5}},
            r"training\.learning_rate=0\.004 there and 0\.5 here",
        ),
        (
            {"rounds": 3},
            r"not all 2 runs of .* have a point at 50 labels .* 3 rounds, this run will have 4",
        ),
        (
            {"fusion": "amcb"},
            r"found 9 runs with other data or fusion: .*fusion=.* there and amcb here",
        ),
    ],
)
def test_another_protocol_is_refused_before_any_work(sweep, update, match):
    with pytest.raises(UsageError, match=match):
        baseline_curves(resolved([sweep], **update))


@pytest.mark.parametrize(
    "update",
    [
        {"training": {"workers": 0}, "seed": 5},
        {"rounds": 1},
        {"amcb": {"enabled": False}},  # which matters to a baseline only where it fuses
    ],
)
def test_what_changes_no_curve_is_no_other_protocol(sweep, update):
    assert len(baseline_curves(resolved([sweep], **update))) == 3


def test_what_is_not_there_is_said_with_the_command_that_makes_it(sweep, tmp_path):
    make = "rlmba compare --strategies gcnal,badge,bmmal"
    with pytest.raises(UsageError, match=f"contains none; create them with .{make}"):
        baseline_curves(resolved([tmp_path]))
    with pytest.raises(UsageError, match=f"found 2 runs of random; create them with .{make}"):
        baseline_curves(resolved([sweep / "cells" / "digits" / "uniform" / "random"]))
    with pytest.raises(RunFolderError, match="expected a run folder"):
        baseline_curves(resolved([tmp_path / "nowhere"]))


def test_a_baseline_that_is_not_finished_is_named(sweep, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(sweep / "cells" / "digits" / "uniform" / "badge", copy)
    log = copy / "seed1" / "rounds.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(
        UsageError, match=r"runs of badge have a point at 40 labels.*seed1 has 2 rounds"
    ):
        baseline_curves(resolved([copy], baselines=["badge"]))
