from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from rlmba.config import RunConfig
from rlmba.errors import RunFolderError, UsageError
from rlmba.experiments.sweep import ABLATIONS, load_sweep, make_plan, read_sweep_file, stored_sweep
from rlmba.experiments.sweep.folder import open_folder
from tests.helpers.sweep_runs import TINY, write_features

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def plan(tmp_path):
    file = write_features(tmp_path / "toy.npz")

    def make(output="out", **values):
        values = {
            "datasets": [str(file)],
            "strategies": ["random", "margin"],
            "seeds": "0-1",
            "settings": TINY,
            **values,
        }
        return make_plan(load_sweep(values), tmp_path / output)

    return make


def names(plan):
    return [run_.name for run_ in plan.runs]


def test_every_run_once_round_0_first_then_seed_by_seed(plan, tmp_path):
    made = plan(fusions=["uniform", "amcb"])
    assert names(made)[:4] == [
        "round0/toy/uniform/seed0",
        "round0/toy/amcb/seed0",
        "round0/toy/uniform/seed1",
        "round0/toy/amcb/seed1",
    ]
    assert names(made)[4:] == [
        f"cells/toy/{fusion}/{strategy}/seed{seed}"
        for seed in (0, 1)
        for fusion in ("uniform", "amcb")
        for strategy in ("random", "margin")
    ]
    run_ = made.runs[4]
    assert run_.folder == tmp_path / "out" / run_.name
    assert run_.config.round0 == tmp_path / "out" / "round0/toy/uniform/seed0"
    assert run_.needs == ("round0/toy/uniform/seed0",)
    assert (run_.config.data, run_.config.seed) == (tmp_path / "toy.npz", 0)
    assert (run_.config.fusion, run_.config.rounds, run_.rounds) == ("uniform", 2, 3)
    first = made.runs[0]
    assert (first.config.strategy, first.config.rounds, first.config.round0) == ("random", 0, None)
    assert first.is_round0
    assert not run_.is_round0


def test_predictors_have_folders_of_their_own(plan):
    made = plan(predictors=["fused", "pooled"], strategies=["random"], seeds=[3])
    assert names(made) == [
        "round0/toy/amcb/seed3",
        "cells/toy/amcb/random/seed3",
        "cells/toy/amcb-pooled/random/seed3",
    ]
    assert [run_.config.predictor for run_ in made.runs] == ["fused", "fused", "pooled"]
    assert {run_.needs for run_ in made.runs[1:]} == {("round0/toy/amcb/seed3",)}


def test_a_strategy_that_trains_otherwise_has_a_round_0_of_its_own(plan):
    wide = {"strategy": "random", "label": "wide", "settings": {"model.width": 32}}
    sharp = {"strategy": "rlmba", "label": "sharp", "settings": {"amcb.tau": 0.1}}
    made = plan(strategies=["random", wide, sharp], seeds=[0])
    found = {run_.label: run_ for run_ in made.runs}
    assert found["wide"].config.round0 is None
    assert found["wide"].needs == ()
    assert found["sharp"].config.round0 == found["random"].config.round0 is not None
    assert made.notes == (
        "wide: these train their own round 0, because their settings change the model",
    )


def test_settings_from_low_to_high(plan, tmp_path):
    other = write_features(tmp_path / "other.npz", seed=1)
    made = plan(
        datasets=[
            str(tmp_path / "toy.npz"),
            {"data": str(other), "name": "second", "settings": {"rounds": 1, "batch_size": 3}},
        ],
        strategies=[
            "random",
            {"strategy": "rlmba", "label": "r", "options": {"kappa": 3}, "settings": {"rounds": 3}},
        ],
        seeds=[0],
        overrides={"epochs": 2, "batch_size": 5},
    )
    found = {run_.name: run_.config for run_ in made.runs}
    assert found["cells/toy/amcb/random/seed0"].rounds == 2
    assert found["cells/second/amcb/random/seed0"].rounds == 1
    best = found["cells/second/amcb/r/seed0"]
    assert (best.rounds, best.batch_size, best.epochs) == (3, 5, 2)
    assert (best.strategy, best.label, best.strategy_options["kappa"]) == ("rlmba", "r", 3)
    assert found["cells/toy/amcb/random/seed0"].label is None
    assert {c.epochs for c in found.values()} == {2}


def test_counts_of_labels_per_class(plan):
    counts = {"budgets_per_class": [1, 2, 4]}
    made = plan(strategies=["random"], seeds=[0], overrides=counts)
    assert [(run_.config.budgets, run_.rounds) for run_ in made.runs] == [([3], 1), ([3, 6, 12], 3)]
    assert made.runs[1].needs == ("round0/toy/amcb/seed0",)


def test_ablations_by_name_are_variants_of_rlmba(plan):
    made = plan(strategies=list(ABLATIONS), seeds=[0])
    found = {run_.label: run_.config for run_ in made.runs}
    assert {found[name].strategy for name in ABLATIONS} == {"rlmba"}
    assert {found[name].label for name in ABLATIONS} == set(ABLATIONS)
    options = {name: found[name].strategy_options for name in ABLATIONS}
    assert not options["amcb-only"]["efda"]
    assert found["amcb-only"].amcb.enabled
    assert not found["efda-only"].amcb.enabled
    assert options["efda-only"]["efda"]
    assert not options["no-diversity"]["diversity"]
    assert options["greedy"]["policy"] == "greedy"
    assert options["uniform-draw"]["policy"] == "uniform"
    for kind in ("absolute", "incremental", "relative"):
        assert found[f"reward-{kind}"].reward.kind == kind


def test_a_strategy_preset_trains_its_own_round_0(plan):
    made = plan(strategies=["rlmba", "rlmba-evidential"], seeds=[0])
    found = {run_.label: run_.config for run_ in made.runs}
    assert found["rlmba-evidential"].strategy == "rlmba"
    assert found["rlmba-evidential"].training.loss == "evidential"
    assert found["rlmba"].training.loss == "cross-entropy"
    assert found["rlmba"].round0 is not None
    assert found["rlmba-evidential"].round0 is None


def test_all_ablations_bring_what_they_are_of_and_need(plan):
    made = plan(strategies=["random"], ablations=True, seeds=[0])
    labels = {run_.label for run_ in made.runs} - {"round 0"}
    assert labels == {"random", "rlmba", "gcnal", "badge", "bmmal", *ABLATIONS}
    assert made.notes == (
        "added rlmba: the ablations are variants of it",
        "added gcnal, badge, bmmal: the reward of reward-relative is relative to their curves",
    )


def test_relative_rewards_wait_for_their_own_baselines(plan, tmp_path):
    made = plan(strategies=["badge", "reward-relative"])
    run_ = next(j for j in made.runs if j.name == "cells/toy/amcb/reward-relative/seed1")
    baselines = [f"cells/toy/amcb/{name}/seed1" for name in ("gcnal", "badge", "bmmal")]
    assert run_.needs == ("round0/toy/amcb/seed1", *baselines)
    assert run_.config.reward.curves == [tmp_path / "out" / name for name in baselines]
    assert made.notes == (
        "added gcnal, bmmal: the reward of reward-relative is relative to their curves",
    )


def test_relative_rewards_of_all_and_with_curves_of_ones_own(plan, tmp_path):
    made = plan(strategies=["rlmba"], settings={**TINY, "reward.kind": "relative"}, seeds=[0])
    kinds = {run_.label: run_.config.reward.kind for run_ in made.runs}
    assert (kinds["rlmba"], kinds["badge"], kinds["round 0"]) == (
        "relative",
        "absolute",
        "absolute",
    )
    own = {**TINY, "reward": {"kind": "relative", "curves": [str(tmp_path)]}}
    made = plan(strategies=["rlmba"], settings=own, seeds=[0])
    assert [run_.label for run_ in made.runs] == ["round 0", "rlmba"]
    assert made.runs[1].config.reward.curves == [tmp_path]


def test_a_comparison_runs_the_baselines_that_are_named(plan):
    settings = {**TINY, "reward": {"kind": "relative", "baselines": ["random", "badge"]}}
    made = plan(strategies=["rlmba", "random"], settings=settings, seeds=[0])
    jobs = {run_.label: run_ for run_ in made.runs}
    assert set(jobs) == {"round 0", "rlmba", "random", "badge"}
    assert jobs["rlmba"].needs[1:] == ("cells/toy/amcb/random/seed0", "cells/toy/amcb/badge/seed0")
    assert jobs["random"].config.reward.kind == "absolute"
    assert made.notes == ("added badge: the reward of rlmba is relative to their curves",)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"strategies": ["random", "bagde"]},
            r"cells/toy/amcb/bagde/seed0 and 1 more: unknown strategy 'bagde'.*'badge'",
        ),
        (
            {"overrides": {"rounds": 40}},
            r"^cells/toy/amcb/random/seed0 and 3 more: the budget exceeds the pool: 6 initial",
        ),
        (
            {"overrides": {"amcb": {"taw": 1}}},
            r"amcb and 2 more: unknown key 'amcb.taw' \(--set\)",
        ),
        (
            {"datasets": [{"dataset": "digits", "settings": {"epochs": 0}}]},
            r"epochs: expected an integer >= 1 or null, got 0 \(settings of data set digits\)",
        ),
        (
            {"strategies": [{"strategy": "rlmba", "options": {"kappa": 0}}]},
            r"cells/toy/amcb/rlmba/seed0 and 1 more: rlmba: expected kappa >= 1",
        ),
        ({"strategies": ["random", "random"]}, r"strategies: 'random' appears twice.*`label`"),
        ({"seeds": [0, 1, 0]}, r"seeds: '0' appears twice.*leave one of them out"),
        ({"datasets": ["digits", "digits"]}, r"data sets: 'digits' appears twice.*`name`"),
        ({"datasets": ["nowhere.npz"]}, r"round0/nowhere/amcb and 2 more: .*nowhere.npz"),
        ({"datasets": ["nonsense"]}, r"unknown data set 'nonsense': expected one of digits"),
        ({"settings": {"fusion": "amcb"}}, r"settings: 'fusion' is decided by fusions"),
        ({"strategies": [{"strategy": "rlmba", "label": "a/b"}]}, r"'a/b' becomes a folder name"),
        ({"strategies": []}, r"strategies: expected at least one.*--ablations"),
        ({"overrides": {"device": "warp"}}, r"device: expected .* got 'warp'"),
        (
            {
                "strategies": [
                    {"strategy": "rlmba", "settings": {"reward.kind": "relative", "epochs": 3}}
                ]
            },
            r"seed0 and 1 more: its relative reward is measured against gcnal, which has epochs=1",
        ),
    ],
)
def test_what_is_wrong_is_said_before_any_work_and_of_which_run(plan, tmp_path, values, message):
    with pytest.raises(UsageError, match=message):
        plan(**values)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stratgies": ["random"]}, r"unknown key 'stratgies'; did you mean 'strategies'\?"),
        ({"strategies": [{"strategy": "a", "lable": "b"}]}, r"strategies.0.lable'.*'label'"),
        ({"seeds": "3-1"}, r"seeds: expected numbers and ascending ranges"),
        ({"seeds": "0-9999999999"}, r"seeds: expected ranges of at most 10,000 seeds"),
        ({"seeds": "9" * 5000}, r"seeds: expected numbers and ascending ranges"),
        ({"seeds": "a"}, r"seeds: expected numbers and ascending ranges such as 0-7"),
        ({"seeds": [-1]}, r"seeds.0: expected greater than or equal to 0, got -1"),
        ({"fusions": ["sum"]}, r"fusions.0: expected 'amcb', 'adaptive'.*got 'sum'"),
        ({"datasets": []}, r"datasets: .*at least 1"),
    ],
)
def test_a_malformed_comparison(values, message):
    with pytest.raises(UsageError, match=message):
        load_sweep(values)


def test_files(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(
        "datasets: digits\nstrategies: [random, {strategy: rlmba, label: x}]\nseeds: 0-2,9\n"
    )
    config = load_sweep(read_sweep_file(file))
    assert [d.dataset for d in config.datasets] == ["digits"]
    assert [s.name for s in config.strategies] == ["random", "x"]
    assert config.seeds == [0, 1, 2, 9]
    file.write_text("- random\n")
    with pytest.raises(UsageError, match="expected keys and values"):
        read_sweep_file(file)
    with pytest.raises(UsageError, match="check the path"):
        read_sweep_file(tmp_path / "missing.yaml")


def test_every_field_is_described():
    from rlmba.experiments.sweep import DatasetEntry, StrategyEntry, SweepConfig

    for section in (SweepConfig, DatasetEntry, StrategyEntry):
        for name, field in section.model_fields.items():
            assert field.description, (section.__name__, name)


def opened(plan, folder, resume=False):
    with open_folder(folder, plan, resume=resume):
        return yaml.safe_load((folder / "sweep.yaml").read_text())


def test_the_stored_plan_is_every_run(plan, tmp_path):
    made = plan(strategies=["random", "greedy"])
    stored = opened(made, tmp_path / "out")
    assert set(stored["runs"]) == {run_.variant for run_ in made.runs}
    greedy = stored["runs"]["cells/toy/amcb/greedy"]
    assert greedy["seeds"] == [0, 1]
    assert greedy["own"]["strategy_options.policy"] == "greedy"
    flat = {**stored["common"], **greedy["own"]}
    assert {k.split(".")[0] for k in flat} == set(RunConfig.model_fields) - {"seed", "round0"}
    assert flat["epochs"] == 1
    assert stored["data"] == dict(made.fingerprints)
    again = make_plan(stored_sweep(tmp_path / "out"), tmp_path / "out")
    assert again.runs == made.runs


def test_a_comparison_goes_on_or_grows(plan, tmp_path):
    out = tmp_path / "out"
    opened(plan(), out)
    with pytest.raises(UsageError, match="already contains a comparison; add --resume"):
        opened(plan(), out)
    opened(plan(), out, resume=True)
    write_features(tmp_path / "second.npz", seed=2)
    more = {
        "strategies": ["greedy", "random", "margin"],
        "seeds": "0-3",
        "fusions": ["amcb", "uniform"],
        "datasets": [str(tmp_path / "toy.npz"), str(tmp_path / "second.npz")],
    }
    stored = opened(plan(**more), out, resume=True)
    assert "cells/second/uniform/greedy" in stored["runs"]
    # Settings that do not affect results may change.
    opened(plan(**more, overrides={"training.workers": 1}), out, resume=True)
    opened(plan(**more, overrides={"project.decoded_gigabytes": 1}), out, resume=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"overrides": {"epochs": 2}}, "epochs was 1 and is now 2"),
        ({"strategies": ["random"]}, "cells/toy/amcb/margin: this run is not in the new plan"),
        ({"seeds": [1]}, "round0/toy/amcb and 2 more: seeds 0 are not in the new plan"),
        (
            {"strategies": ["random", {"strategy": "entropy", "label": "margin"}]},
            "cells/toy/amcb/margin: strategy was 'margin' and is now 'entropy'",
        ),
    ],
)
def test_another_plan_is_refused_with_what_differs(plan, tmp_path, values, message):
    out = tmp_path / "out"
    before = opened(plan(), out)
    with pytest.raises(UsageError, match=message) as caught:
        opened(plan(**values), out, resume=True)
    assert "contains a different comparison" in str(caught.value)
    assert yaml.safe_load((out / "sweep.yaml").read_text()) == before


def test_other_data_are_refused(plan, tmp_path):
    opened(plan(), tmp_path / "out")
    write_features(tmp_path / "toy.npz", seed=5)
    with pytest.raises(UsageError, match=r"toy: the data have changed \(the checksums differ\)"):
        opened(plan(), tmp_path / "out", resume=True)


def test_a_folder_of_something_else_or_in_use_or_damaged(plan, tmp_path):
    made, out = plan(), tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").touch()
    with pytest.raises(UsageError, match="files that are not a comparison"):
        opened(made, out, resume=True)
    (out / "thesis.tex").unlink()
    with (
        open_folder(out, made, resume=False),
        pytest.raises(RunFolderError, match=re.escape(f"{out} is being written by process")),
    ):
        opened(made, out, resume=True)
    (out / "sweep.yaml").write_text("format: 1\nruns")
    with pytest.raises(RunFolderError, match="damaged"):
        opened(made, out, resume=True)
    (out / "sweep.yaml").write_text("format: 9\nrlmba: '7.0'\n")
    with pytest.raises(RunFolderError, match=r"expected format 1, found 9.*7\.0"):
        opened(made, out, resume=True)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda p: p.name)
def test_examples_are_comparisons(file):
    assert load_sweep(read_sweep_file(file)).strategies
