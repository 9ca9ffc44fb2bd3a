"""Strategies against a reference: the pairs, and the notes about what is not compared."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlmba.errors import UsageError
from rlmba.experiments import group_runs
from rlmba.experiments.statistics import (
    ALL_SETS,
    compare_to,
    holm,
    paired,
    protocol_differences,
)
from rlmba.runfolder.store import read_run
from tests.helpers.made_groups import at_any_speed, make_group

RNG = np.random.default_rng(7)
BASE = RNG.uniform(0.4, 0.5, (8, 3)) + np.array([0, 0.1, 0.2])
UP = BASE + RNG.normal(0.02, 0.01, (8, 3))
DOWN = BASE - RNG.normal(0.03, 0.01, (8, 3))
NEAR = BASE + RNG.normal(0, 0.02, (8, 3)) - [[0], [0.01]] * 4


def of_strategy(found):
    return {row.strategy: row for row in found}


def read(*folders):
    return group_runs([read_run(folder) for folder in folders])


def test_wins_ties_and_losses_are_holms_over_one_data_set():
    groups = [
        make_group("up", UP),
        make_group("random", BASE),
        make_group("down", DOWN),
        make_group("near", NEAR),
        make_group("up", UP, dataset="b"),
        make_group("random", BASE, dataset="b"),
    ]
    found = compare_to(groups, "random")
    assert [(row.dataset, row.strategy, row.verdict) for row in found] == [
        ("a", "up", "wins"),
        ("a", "down", "loses"),
        ("a", "near", "ties"),
        ("b", "up", "wins"),
    ]
    assert found.notes == ()
    tests = [paired(x.mean(axis=1), BASE.mean(axis=1)) for x in (UP, DOWN, NEAR)]
    assert [row.test for row in found[:3]] == tests
    assert [row.p_holm for row in found[:3]] == holm([test.p for test in tests])
    assert found[3].p_holm == tests[0].p
    assert {row.reference for row in found} == {"random"}
    final = compare_to(groups, "random", measure="final")
    assert final[0].test == paired(UP[:, -1], BASE[:, -1])


def test_fusions_and_predictors_are_never_mixed():
    groups = [
        make_group(name, curves, fusion=fusion, predictor=predictor)
        for fusion, predictor, shift in (
            ("uniform", "fused", 0),
            ("uniform", "pooled", 0.1),
            ("amcb", "fused", 0.2),
        )
        for name, curves in (("random", BASE + shift), ("up", UP + shift))
    ]
    found = compare_to(groups, "random")
    assert [(row.fusion, row.predictor) for row in found] == [
        ("uniform", "fused"),
        ("uniform", "pooled"),
        ("amcb", "fused"),
    ]
    difference = (UP - BASE).mean()
    assert [row.test.difference for row in found] == pytest.approx([difference] * 3)
    # Two tests under uniform fusion, one under amcb.
    p = found[0].test.p
    assert [row.p_holm for row in found] == pytest.approx([2 * p, 2 * p, p])


def test_pooled_pairs_are_data_sets_times_seeds():
    groups = [
        make_group("random", BASE),
        make_group("up", UP),
        make_group("random", BASE[:3], dataset="b"),
        make_group("up", DOWN[:3], dataset="b"),
        make_group("near", NEAR[:3], dataset="b"),
        make_group("random", BASE, dataset="c", fusion="amcb"),
        make_group("up", UP, dataset="c", fusion="amcb"),
    ]
    found = compare_to(groups, "random", pooled=True)
    assert [(r.dataset, r.fusion, r.strategy, r.datasets) for r in found] == [
        (ALL_SETS, "uniform", "up", ("a", "b")),
        (ALL_SETS, "uniform", "near", ("b",)),
        (ALL_SETS, "amcb", "up", ("c",)),
    ]
    mine = np.concatenate([UP, DOWN[:3]]).mean(axis=1)
    assert found[0].test == paired(mine, np.concatenate([BASE, BASE[:3]]).mean(axis=1))
    assert [r.p_holm for r in found[:2]] == holm([r.test.p for r in found[:2]])
    assert found.notes == ("all data sets, uniform fusion: near against random: pairs only on b",)


def test_seeds_that_one_lacks_are_left_out_and_named():
    groups = [
        make_group("random", BASE[[0, 1, 2, 3]], seeds=(3, 1, 4, 9)),
        make_group("up", UP[[2, 0, 5]], seeds=(4, 3, 6)),
    ]
    found = compare_to(groups, "random")
    assert found[0].test == paired(UP[[0, 2]].mean(axis=1), BASE[[0, 2]].mean(axis=1))
    assert found.notes == (
        "a, uniform fusion: pairs with up exclude seeds 1, 9, which it does not have",
        "a, uniform fusion: pairs with random exclude seed 6, which it does not have",
    )
    apart = compare_to(
        [make_group("random", BASE), make_group("up", UP, seeds=range(8, 16))], "random"
    )
    assert len(apart) == 0
    assert apart.notes[-1] == "a, uniform fusion: up and random share no seed; not compared"


def test_one_seed_has_no_p_and_says_so():
    (row,) = found = compare_to(
        [make_group("random", BASE[:1]), make_group("up", UP[:1])], "random"
    )
    assert (row.test.p, row.p_holm, row.verdict) == (None, None, "ties")
    assert found.notes == ("a, uniform fusion: up against random: one seed, so no p value",)


def test_a_curve_that_ends_early_cuts_the_others():
    groups = [
        make_group("random", BASE),
        make_group("up", UP[:7]),
        make_group("up", UP[7:, :2], seeds=(7,), labels=(20, 40), variant="labels 20 to 40"),
        make_group("down", DOWN),
    ]
    # A real group of a run that ended early has the same options as its siblings.
    groups = [replace(group, options={"epochs": "5"}) for group in groups]
    found = of_strategy(compare_to(groups, "random"))
    assert found["up"].test == paired(UP[:, :2].mean(axis=1), BASE[:, :2].mean(axis=1))
    assert found["down"].test == paired(DOWN.mean(axis=1), BASE.mean(axis=1))
    (note,) = compare_to(groups, "random").notes
    assert note == (
        "a, uniform fusion: curves truncated to 20 to 40 labels (2 rounds including round 0) in some "
        "comparisons: seed 7 of up ended there"
    )
    final = of_strategy(compare_to(groups, "random", measure="final"))
    assert final["up"].test == paired(UP[:, 1], BASE[:, 1])


def test_numbers_of_labels_that_part_are_compared_up_to_there():
    other = make_group("up", UP, labels=(20, 40, 60))
    found = compare_to([make_group("random", BASE), other], "random")
    assert found[0].test == paired(UP[:, :2].mean(axis=1), BASE[:, :2].mean(axis=1))
    assert found.notes[0].endswith("the numbers of labels differ after that")


def test_nan_is_left_out_and_named():
    broken = UP.copy()
    broken[2, 1] = np.nan
    found = compare_to([make_group("random", BASE), make_group("up", broken)], "random")
    keep = [0, 1, 3, 4, 5, 6, 7]
    assert found[0].test == paired(UP[keep].mean(axis=1), BASE[keep].mean(axis=1))
    assert found.notes[0] == (
        "a, uniform fusion: seed 2 of up is left out, its Top-1 at 40 labels is NaN"
    )


def test_other_conditions_are_compared_apart(write_run):
    folders = [
        write_run(
            f"{strategy}{seed}", "rounds=3", strategy=strategy, seed=seed, level=level, **more
        )
        for strategy, level, more in (
            ("random", 0.3, {}),
            ("badge", 0.4, {}),
            ("bmmal", 0.4, {"epochs": 3, "batch_size": 7}),
        )
        for seed in range(3)
    ]
    groups = read(*folders)
    assert protocol_differences(groups) == {"batch_size": ("20", "7"), "epochs": ("15", "3")}
    found = compare_to(groups, "random")
    assert [row.strategy for row in found] == ["badge"]
    why, who = found.notes
    assert why == (
        "digits, amcb fusion: compared separately, because the conditions differ: "
        "batch_size = 20 (random, badge), 7 (bmmal); epochs = 15 (random, badge), 3 (bmmal)"
    )
    assert who == (
        "digits, amcb fusion, fused predictor: no random under the conditions of bmmal; not compared"
    )
    bmmal = [
        write_run(f"r{seed}", "rounds=3", strategy="random", seed=seed, epochs=3, batch_size=7)
        for seed in range(3)
    ]
    both = compare_to(read(*folders, *bmmal), "random")
    assert [row.strategy for row in both] == ["badge", "bmmal"]
    assert both[1].test.difference == pytest.approx(-0.1)


@pytest.mark.parametrize(
    "settings",
    [
        ["strategy_options.kappa=3"],
        ["amcb.tau=0.1"],
        ["reward.kind=incremental"],
        ["label=mine"],
        ["adaptive_penalty=2"],
        ["training.workers=0", "device=cpu"],
    ],
)
def test_what_belongs_to_the_method_or_changes_nothing_is_compared(write_run, settings):
    groups = read(
        write_run("a", "rounds=3", strategy="random"), write_run("b", "rounds=3", *settings)
    )
    assert protocol_differences(groups) == {}
    found = compare_to(groups, "random")
    assert len(found) == 1
    assert found.notes == (
        f"digits, amcb fusion: {found[0].strategy} against random: one seed, so no p value",
    )


def test_the_penalty_of_adaptive_fusion_is_a_condition(write_run):
    groups = read(
        write_run("a", strategy="random", fusion="adaptive"),
        write_run("b", "adaptive_penalty=2", fusion="adaptive"),
    )
    assert protocol_differences(groups) == {"adaptive_penalty": ("1.0", "2.0")}


def test_top1_on_validation_and_groups_of_unknown_conditions_stay_apart(write_run):
    ours = read(write_run("a", strategy="random", fusion="concat"))[0]
    foreign = make_group("badge", BASE, dataset="digits", fusion="concat", labels=(20, 40, 60))
    valid = read(write_run("v", test=False, strategy="bmmal", fusion="concat"))[0]
    found = compare_to([ours, foreign, valid], "random")
    assert len(found) == 0
    assert "unknown for badge" in found.notes[-3]
    assert "Top-1 on = test (random, badge), validation (bmmal)" in found.notes[-3]
    assert "the conditions of badge" in found.notes[-2]
    assert "the conditions of bmmal" in found.notes[-1]


def test_versions_and_unfinished_runs_are_noted(write_run):
    a = write_run("a", "rounds=9", strategy="random")
    b = write_run("b", "rounds=3")
    info = json.loads((b / "run.json").read_text())
    (b / "run.json").write_text(json.dumps({**info, "rlmba": "0.2"}))
    notes = compare_to(read(a, b), "random").notes
    assert notes[:2] == (
        "random on digits under amcb fusion: seed 0 not finished, 3 of 9 rounds so far",
        "digits, amcb fusion: runs of several versions of rlmba: 0.2 (rlmba), test (random)",
    )


def test_variants_of_one_name_are_told_apart(write_run):
    groups = read(
        write_run("a", strategy="random"),
        write_run("b", "strategy_options.kappa=3"),
        write_run("c", "strategy_options.kappa=7", seed=1),
        write_run("d", "strategy_options.kappa=7"),
    )
    names = [row.strategy for row in compare_to(groups, "random")]
    assert names == ["rlmba (strategy_options.kappa=3)", "rlmba (strategy_options.kappa=7)"]
    found = compare_to(groups, "rlmba (strategy_options.kappa=3)")
    assert [row.strategy for row in found] == ["random", "rlmba (strategy_options.kappa=7)"]
    with pytest.raises(UsageError, match=r"'rlmba' is ambiguous: rlmba .*=3.; rlmba .*=7."):
        compare_to(groups, "rlmba")


def test_bad_requests_are_refused():
    groups = [make_group("random", BASE), make_group("up", UP)]
    with pytest.raises(UsageError, match="one of random, up, got 'badge'"):
        compare_to(groups, "badge")
    with pytest.raises(UsageError, match="one of no strategies, got 'badge'"):
        compare_to([], "badge")
    with pytest.raises(UsageError, match='"aubc" or "final", got \'best\''):
        compare_to(groups, "random", measure="best")
    with pytest.raises(UsageError, match="seed 0 of up was found twice"):
        compare_to([*groups, make_group("up", UP[:1])], "random")


def test_of_two_curves_of_one_seed_the_longer_counts():
    groups = [
        replace(group, options={"epochs": "5"})
        for group in (
            make_group("random", BASE),
            make_group("up", DOWN[:, :2], labels=(20, 40)),
            make_group("up", UP),
        )
    ]
    for order in (groups, groups[::-1]):
        found = compare_to(order, "random")
        assert found[0].test == paired(UP.mean(axis=1), BASE.mean(axis=1))
        assert "seed 0 of up was found twice; the longer curve is used" in found.notes[0]


@at_any_speed
@given(st.permutations(range(6)), st.booleans())
def test_the_order_of_groups_is_only_the_order_of_the_answer(order, pooled):
    groups = [
        make_group(name, curves, dataset=dataset)
        for dataset in "ab"
        for name, curves in (("random", BASE), ("up", UP), ("near", NEAR[:5]))
    ]

    def answer(groups):
        found = compare_to(groups, "random", pooled=pooled)
        rows = {(r.dataset, r.strategy): (r.test, r.p_holm, r.verdict) for r in found}
        return rows, set(found.notes)

    if not pooled:
        assert answer([groups[i] for i in order]) == answer(groups)
        return
    (mixed, mixed_notes), (plain, notes) = answer([groups[i] for i in order]), answer(groups)
    assert mixed_notes == notes
    assert mixed.keys() == plain.keys()
    for key, (test, p, verdict) in plain.items():
        assert mixed[key][0].p == pytest.approx(test.p, rel=1e-9)
        assert mixed[key][1] == pytest.approx(p, rel=1e-9)
        assert mixed[key][2] == verdict
