# ruff: noqa: E402 - the database must be chosen before FiftyOne is imported
"""The operator for FiftyOne's App, found as a plugin and executed by FiftyOne."""

from __future__ import annotations

import asyncio
import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import pytest

if importlib.util.find_spec("fiftyone") is None:
    pytest.skip("FiftyOne is not installed", allow_module_level=True)

from tests.helpers import fiftyone_database

fiftyone_database.prepare(Path(tempfile.mkdtemp(prefix="rlmba_fiftyone_")))

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators.executor import ExecutionError, resolve_type

import rlmba.adapters
import rlmba.strategies

URI = "@rlmba/select/select_samples"
PLUGIN = Path(rlmba.adapters.__path__[0]) / "fiftyone_plugin"
N, LABELED = 30, 5
GIVEN = {
    "strategy": "rlmba-x",
    "n": 4,
    "embeddings": "image",
    "logits": "predictions.logits",
    "label_field": "ground_truth",
    "tag": "next",
}


@pytest.fixture(autouse=True)
def plugins(tmp_path, monkeypatch):
    """FiftyOne's folder of plugins with a link to the plugin, as the documentation says."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "rlmba").symlink_to(PLUGIN)
    monkeypatch.setattr(fo.config, "plugins_dir", str(tmp_path / "plugins"))


@pytest.fixture
def dataset():
    rng = np.random.default_rng(0)
    made = fo.Dataset()
    made.add_samples(
        fo.Sample(
            filepath=f"/pictures/{i}.jpg",
            image=rng.normal(size=8),
            text=rng.normal(size=5),
            predictions=fo.Classification(label="cat", logits=rng.normal(size=3)),
            ground_truth=fo.Classification(label="cat") if i < LABELED else None,
        )
        for i in range(N)
    )
    yield made
    made.delete()


def execute(view, **given):
    return foo.execute_operator(URI, {"view": view, "params": given})


def form(dataset, **given):
    """The form as the App gets it: the inputs by name."""
    request = {"dataset_name": dataset.name, "params": given}
    made = asyncio.run(resolve_type(foo.OperatorRegistry(), URI, request)).to_json()
    return made["type"]["properties"]


def requests(result):
    return {r["operator_uri"]: r["params"] for r in result.executor.to_json()["requests"]}


def test_fiftyone_finds_the_operator():
    assert foo.operator_exists(URI)
    assert foo.get_operator(URI).config.label == "Select samples to label"


@fiftyone_database.needs_server
def test_the_samples_are_tagged_and_shown_by_rank(dataset):
    result = execute(dataset.view(), **GIVEN)
    assert result.result == {"selected": 4}
    assert dataset.match_tags("next").count() == 4
    asked = requests(result)
    assert [*asked] == ["reload_dataset", "set_view", "notify"]
    shown = fo.DatasetView._build(dataset, asked["set_view"]["view"])
    assert shown.values("rlmba_rank") == [1, 2, 3, 4]
    assert set(shown.values("tags", unwind=True)) == {"next"}


def test_the_current_view_is_the_pool(dataset):
    view = dataset.skip(20)
    result = execute(view, **GIVEN | {"tag": None})
    assert result.result == {"selected": 4}
    assert set(dataset.match_tags("rlmba").values("id")) <= set(view.values("id"))


@fiftyone_database.needs_server
def test_a_slice_of_a_grouped_dataset():
    dataset = fo.Dataset()
    dataset.add_group_field("group", default="left")
    for i in range(6):
        group = fo.Group()
        dataset.add_samples(
            fo.Sample(filepath=f"/pictures/{i}-{side}.jpg", group=group.element(side))
            for side in ("left", "right")
        )
    view = dataset.select_group_slices("right")
    try:
        asked = requests(execute(view, strategy="random", n=2))
        shown = fo.DatasetView._build(dataset, asked["set_view"]["view"])
        assert shown.values("rlmba_rank") == [1, 2]
        assert shown.values("group.name") == ["right", "right"]
    finally:
        dataset.delete()


def test_several_modalities(dataset):
    given = GIVEN | {"strategy": "coreset", "embeddings": "image=image, text = text", "logits": ""}
    assert execute(dataset.view(), **given).result == {"selected": 4}


def test_the_form_offers_what_the_dataset_has(dataset):
    inputs = form(dataset)
    assert [*inputs] == ["strategy", "n", "embeddings", "logits", "label_field", "tag"]
    offered = inputs["strategy"]["type"]["values"]
    assert {"rlmba-x", "rlmba-h", "random", "margin", "coreset"} <= set(offered)
    assert {"bald", "badge", "deepfool"} & set(offered) == {"badge"}

    def suggested(name):
        return [choice["value"] for choice in inputs[name]["view"]["choices"]]

    assert suggested("embeddings") == ["image", "text"]
    assert suggested("logits")[:2] == ["predictions.logits", "ground_truth.logits"]
    assert suggested("label_field") == ["predictions", "ground_truth"]
    assert inputs["label_field"]["default"] == "ground_truth"


@pytest.mark.parametrize(
    ("strategy", "embeddings", "logits"),
    [
        ("rlmba-x", True, True),
        ("rlmba-h", True, False),
        ("margin", False, True),
        ("random", False, False),
    ],
)
def test_the_form_requires_what_the_strategy_needs(dataset, strategy, embeddings, logits):
    inputs = form(dataset, strategy=strategy)
    assert inputs["embeddings"]["required"] is embeddings
    assert inputs["logits"]["required"] is logits


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "Path: n. Reason: Value must be greater than 1"),
        ({"n": None}, "Path: n. Reason: Required"),
        ({"strategy": "rlmba-y"}, "Path: strategy. Reason: Invalid enum value"),
        (
            {"embeddings": "imag"},
            "Path: embeddings. .*expected one of the view's fields, got 'imag'",
        ),
        ({"embeddings": None}, "Path: embeddings. Reason: Required"),
        ({"embeddings": "a=image, text"}, "Path: embeddings. .*expected a field, or modalities"),
        ({"embeddings": "a=image, a=text"}, "Path: embeddings. .*one field for each modality"),
        ({"logits": None}, "Path: logits. Reason: Required"),
    ],
)
def test_bad_input_is_refused_in_the_form(dataset, change, message):
    with pytest.raises(ExecutionError, match=message):
        execute(dataset.view(), **GIVEN | change)
    assert not dataset.has_field("rlmba_rank")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": N}, "0..25 (the pool's size), got 30"),
        ({"logits": "ground_truth.logits"}, "got none in 30 samples; compute them first"),
        ({"label_field": "image"}, "a field with one class"),
    ],
)
def test_an_error_of_the_selection_is_shown(dataset, change, message):
    result = execute(dataset.view(), **GIVEN | change)
    assert message in result.result["error"]
    assert requests(result) == {}
    assert not dataset.has_field("rlmba_rank")
    assert dataset.count_sample_tags() == {}
    request = {"dataset_name": dataset.name, "target": "outputs", "results": result.result}
    shown = asyncio.run(resolve_type(foo.OperatorRegistry(), URI, request)).to_json()
    assert shown["type"]["properties"]["message"]["view"]["description"] == result.result["error"]


def test_without_a_dataset_the_form_says_so():
    made = asyncio.run(resolve_type(foo.OperatorRegistry(), URI, {})).to_json()
    assert made["invalid"]
    assert made["error_message"] == "Open a dataset first"
