"""Colors: one for each strategy and modality, wherever they are drawn; and axes of a single round."""

from __future__ import annotations

import re
from importlib import resources

import numpy as np

from rlmba.experiments.content import Cell, TableData
from rlmba.experiments.figures.style import curve, panels, strategy_styles
from rlmba.experiments.palette import COLOURS, modality_colours
from rlmba.experiments.tables import render


def test_the_page_of_a_report_has_the_colors_of_the_figures():
    style = (resources.files("rlmba.experiments.html") / "style.css").read_text()
    light, dark = (
        dict(re.findall(r"--line-(\d+): (#\w+)", part)) for part in style.split("@media", 2)[:2]
    )
    assert list(light.values()) == list(COLOURS)
    assert list(light) == list(dark) == list(map(str, range(len(COLOURS))))


def test_modalities_have_colors_that_no_strategy_has():
    found = modality_colours(["multimodal", "image", "text", "audio", "video", "depth", "imu"])
    assert len(set(found.values())) == 7
    assert not set(found.values()) & set(COLOURS)
    assert modality_colours(["depth", "text"])["text"] == found["text"]


def test_a_strategy_has_its_color_in_any_company():
    alone = {name: strategy_styles([name])[name]["color"] for name in ("rlmba", "random", "bmmal")}
    assert {
        n: s["color"] for n, s in strategy_styles(["mine", *alone]).items() if n in alone
    } == alone


def test_a_numbered_variant_has_the_color_of_its_strategy():
    names = ["rlmba", "rlmba [1]", "rlmba [2]", "mine", "mine [1]", "yours"]
    variants_of = {"rlmba [1]": "rlmba", "rlmba [2]": "rlmba", "mine [1]": "mine"}
    styles = strategy_styles(names, variants_of)
    first, *variants = (styles[name] for name in names[:3])
    assert {v["color"] for v in variants} == {first["color"]}
    assert len({(str(s["linestyle"]), s["marker"]) for s in (first, *variants)}) == 3
    assert [styles[name]["color"] for name in names[3:]] == [COLOURS[0], COLOURS[0], COLOURS[1]]


def test_axes_of_a_single_round():
    _, (axis,) = panels(1, columns=1, ylabel="Top-1", share_y=False)
    curve(axis, np.array([40]), np.array([[0.61], [0.62]]), color="#000000")
    assert list(axis.get_xticks()) == [40]
    assert axis.get_xlim() == (20, 60)
    low, high = axis.get_ylim()
    assert high - low >= 0.1
    assert axis.lines[0].get_marker() == "o"
    curve(axis, np.array([40, 43]), np.array([[0.61, 0.62]]), color="#000000")
    assert axis.get_xlim()[1] < 50
    assert all(float(tick).is_integer() for tick in axis.get_xticks())


def test_losing_does_not_look_like_winning():
    row = (Cell("wins"), Cell("loses"))
    table = TableData(
        "t", "T", ("a", "b"), (row,), bold=frozenset({(0, 0)}), worse=frozenset({(0, 1)})
    )
    assert "| **wins** | *loses* |" in render.markdown(table)
    assert r"\textbf{wins} & \textit{loses}" in render.latex(table)
