"""Figures: their files, their numbers and their appearance."""

from __future__ import annotations

import io
from dataclasses import replace
from xml.etree import ElementTree as ET

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest

from rlmba.experiments import statistics
from rlmba.experiments.figures import scoped, single
from rlmba.experiments.figures.ablation import figure7
from rlmba.experiments.figures.assemble import scope_figures
from rlmba.experiments.figures.ranks import critical_difference
from rlmba.experiments.figures.style import strategy_styles
from rlmba.experiments.scope import ORDER, scopes
from tests.helpers.made_groups import make_group


def group(name, level, seeds=2, **fields):
    curve = np.linspace(level, level + 0.2, 3)
    made = make_group(name, [curve + 0.01 * s for s in range(seeds)], **fields)
    heads = {"mm": made.top1["mm"], "image": made.top1["mm"] - 0.2, "audio": made.top1["mm"] - 0.1}
    shares = {"image": np.full((seeds, 3), 0.4), "audio": np.full((seeds, 3), 0.6)}
    return replace(made, top1=heads, top1_macro=heads, contributions=shares, weights=shares)


def scope_of(*groups):
    (scope,) = scopes(groups)
    return scope


def image_of(figure):
    return matplotlib.image.imread(io.BytesIO(figure.files["png"]), format="png")[..., :3]


def ink(figure, color):
    wanted = np.array(matplotlib.colors.to_rgb(color))
    return int((np.abs(image_of(figure) - wanted).max(axis=-1) < 0.02).sum())


@pytest.mark.slow
def test_figure5_draws_every_strategy_and_gives_its_numbers():
    scope = scope_of(group("random", 0.4), group("rlmba", 0.5), group("amcb-only", 0.45))
    figure = scoped.figure5(scope, "a")
    assert figure.key == "figure5_a_uniform"
    assert figure.files["pdf"].startswith(b"%PDF")
    assert figure.files["svg"].startswith(b"<?xml")
    styles = strategy_styles(["random", "rlmba", "efda-only"])
    assert ink(figure, styles["rlmba"]["color"]) > 200
    assert ink(figure, styles["efda-only"]["color"]) == 0
    rows = [dict(zip(figure.columns, row, strict=True)) for row in figure.rows]
    assert {(r["strategy"], r["name"]) for r in rows} == {
        (s, h) for s in ("random", "rlmba") for h in ("mm", "image", "audio")
    }
    (point,) = [
        r for r in rows if (r["strategy"], r["name"], r["labels"]) == ("rlmba", "audio", 40)
    ]
    assert point["mean"] == pytest.approx(0.505)
    assert point["sd"] == pytest.approx(np.std([0, 0.01], ddof=1))
    again = scoped.figure5(scope, "a")
    assert again.files == figure.files


def test_one_seed_has_no_spread_and_unknown_no_figure():
    scope = scope_of(group("random", 0.4, seeds=1))
    figure = scoped.figure6(scope, "a")
    assert {row[figure.columns.index("sd")] for row in figure.rows} == {""}
    assert "band" not in figure.caption
    assert scoped.calibration(scope, "a") is None
    assert scoped.figure6(scope_of(make_group("random", [0.5])), "a") is None


def test_figure7_compares_rewards_that_differ_by_nothing_else():
    options = {"strategy": "rlmba", "strategy_options.kappa": "5"}
    reward = np.full((2, 3), 0.25)
    groups = [
        group("bmmal", 0.4),
        group("rlmba", 0.5, options={**options, "reward.kind": "absolute"}, raw_reward=reward),
        group(
            "mine", 0.45, options={**options, "reward.kind": "incremental"}, raw_reward=reward / 5
        ),
        group("no-diversity", 0.3, options={**options, "x": "1", "reward.kind": "relative"}),
    ]
    figure = figure7(scope_of(*groups), "a")
    panels = {}
    for row in figure.rows:
        panels.setdefault(row[0], set()).add(row[1])
    assert panels == {
        "ablations": {"bmmal", "no-diversity", "rlmba"},
        "kinds of reward": {"absolute", "incremental"},
        "their rewards": {"absolute", "incremental"},
    }
    means = {row[1]: row[6] for row in figure.rows if row[0] == "their rewards"}
    assert means == {"absolute": 0.25, "incremental": 0.05}
    assert figure7(scope_of(groups[0], groups[1]), "a") is None


def test_critical_difference_diagram():
    names = ("rlmba-x", "badge", "random")
    ranking = statistics.Ranking(
        names=names,
        mean_rank=np.array([1.2, 2.0, 2.8]),
        blocks=10,
        friedman_p=0.002,
        critical_difference=1.05,
        cliques=((0, 1), (1, 2)),
        datasets=("a",),
        alpha=0.05,
        notes=(),
    )
    figure = critical_difference(
        ranking, key="uniform", heading="uniform fusion, fused predictor", fusion="uniform"
    )
    assert figure.rows == [("rlmba-x", 1.2, 1), ("badge", 2.0, 2), ("random", 2.8, 1)]
    assert "10 blocks" in figure.caption
    assert "1.05" in figure.caption
    image = image_of(figure)
    dark = (image.max(axis=-1) < 0.3).sum(axis=0)
    # Names lie within the picture: nothing touches its sides.
    assert dark[:4].sum() == dark[-4:].sum() == 0
    apart = critical_difference(
        replace(ranking, cliques=()),
        key="uniform",
        heading="uniform fusion, fused predictor",
        fusion="uniform",
    )
    assert ink(apart, "#D55E00") < ink(figure, "#D55E00")


def test_strategies_are_told_apart_without_color():
    styles = strategy_styles([n for n in ORDER if not n.startswith("reward-")])
    looks = {(str(s["linestyle"]), s["marker"]) for s in styles.values()}
    assert len(looks) == len(styles)
    others = strategy_styles([f"mine{i}" for i in range(10)])
    assert len({(str(s["linestyle"]), s["marker"]) for s in others.values()}) == 10
    # A strategy looks the same whatever the other strategies are.
    assert strategy_styles(["mine", "rlmba"])["rlmba"] == styles["rlmba"]


@pytest.mark.slow
def test_every_figure_of_a_scope_once():
    scope = scope_of(group("random", 0.4), group("rlmba", 0.5))
    keys = [figure.key for figure in scope_figures([scope])]
    assert keys == ["ranks_uniform", "figure5_a_uniform", "figure6_a_uniform", "weights_a_uniform"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["$", "cost $x^", "a_$b$", "_hidden", r"\frac", "\x1b[0m", "100%"])
def test_names_are_drawn_as_they_are(name, recwarn):
    groups = [
        group("random", 0.4, dataset=name),
        group(name, 0.5, dataset=name, variant=f"{name}=1"),
        group("amcb-only", 0.45, dataset=name),
    ]
    heads = {"mm": groups[0].top1["mm"], name: groups[0].top1["mm"] - 0.2}
    scope = scope_of(*(replace(g, top1=heads, contributions={name: heads[name]}) for g in groups))
    for figure in scope_figures([scope]):
        assert ET.fromstring(figure.files["svg"]) is not None
    assert [str(w.message) for w in recwarn if "legend" in str(w.message)] == []
    assert single.learning_curve(replace(groups[1], top1=heads)).startswith(b"\x89PNG")
