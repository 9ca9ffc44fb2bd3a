# ruff: noqa: E402 - the database must be chosen before FiftyOne is imported
"""The adapter for FiftyOne on datasets and views, with FiftyOne's own database or one in memory."""

from __future__ import annotations

import importlib.util
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

if importlib.util.find_spec("fiftyone") is None:
    pytest.skip("FiftyOne is not installed", allow_module_level=True)

from tests.helpers import fiftyone_database

fiftyone_database.prepare(Path(tempfile.mkdtemp(prefix="rlmba_fiftyone_")))

import fiftyone as fo

import rlmba
from rlmba.adapters.fiftyone import select
from rlmba.errors import DataError, UsageError
from rlmba.strategies.uncertainty import Margin, margin_difficulty

CLASSES = ["bird", "cat", "dog"]
N, LABELED = 40, 6


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, 8)), rng.normal(size=(N, 3))


@pytest.fixture
def dataset(arrays):
    made = fo.Dataset()
    made.add_samples(
        fo.Sample(
            filepath=f"/pictures/{i}.jpg",
            image=arrays[0][i],
            text=arrays[0][i, :5],
            predictions=fo.Classification(label="cat", logits=arrays[1][i]),
            ground_truth=fo.Classification(label=CLASSES[i % 3]) if i < LABELED else None,
        )
        for i in range(N)
    )
    yield made
    made.delete()


GIVEN = {"label_field": "ground_truth", "embeddings": "image", "logits": "predictions.logits"}


def test_the_batch_of_the_arrays_is_marked(dataset, arrays):
    batch = select(dataset, "rlmba-x", 5, rng=0, **GIVEN)
    expected = rlmba.select(
        "rlmba-x", features=arrays[0], logits=arrays[1], labeled=np.arange(LABELED), n=5, rng=0
    )
    assert batch.positions.tolist() == expected.positions.tolist()
    assert batch.ids.tolist() == [dataset.values("id")[p] for p in expected.positions]
    ranks = dataset.values("rlmba_rank")
    assert [ranks[p] for p in batch.positions] == [1, 2, 3, 4, 5]
    assert sum(r is not None for r in ranks) == 5
    scores = dataset.values("rlmba_score")
    assert [scores[p] for p in batch.positions] == batch.scores.tolist()
    assert dataset.match_tags("rlmba").count() == 5
    assert dataset.values("difficulty") == pytest.approx(margin_difficulty(arrays[1]))


def test_the_next_batch_replaces_the_marks_and_another_tag_keeps_the_batches(dataset):
    first = select(dataset, "margin", 4, tag="one", **GIVEN)
    for id_ in first.ids:
        sample = dataset[str(id_)]
        sample["ground_truth"] = fo.Classification(label="dog")
        sample.save()
    second = select(dataset, "margin", 3, tag="two", **GIVEN)
    assert not set(first.ids) & set(second.ids)
    assert set(dataset.match_tags("one").values("id")) == set(first.ids)
    assert set(dataset.match_tags("two").values("id")) == set(second.ids)
    assert set(dataset.match({"rlmba_rank": {"$gt": 0}}).values("id")) == set(second.ids)
    for n in (1, 0):
        select(dataset, "margin", n, tag="two", **GIVEN)
        assert dataset.match_tags("two").count() == n
        assert dataset.match({"rlmba_score": {"$ne": None}}).count() == n


def test_a_view_is_its_own_pool_and_may_depend_on_the_marks(dataset):
    select(dataset, "margin", 10, **GIVEN)
    view = dataset.match_tags("rlmba")
    before = view.values("id")
    batch = select(view, "margin", 3, **GIVEN)
    assert set(batch.ids) <= set(before)
    assert set(dataset.match_tags("rlmba").values("id")) == set(batch.ids)


def test_several_modalities_of_which_a_sample_lacks_one(dataset):
    sample = dataset.skip(20).first()
    sample["text"] = None
    sample.save()
    batch = select(
        dataset,
        "coreset",
        5,
        label_field="ground_truth",
        embeddings={"image": "image", "text": "text"},
    )
    assert len(set(batch.ids)) == 5
    assert not dataset.has_field("difficulty") or set(dataset.values("difficulty")) == {None}
    with pytest.raises(DataError, match="has no vector in the field 'text'"):
        select(dataset, "coreset", 5, label_field=None, embeddings="text")


def test_a_function_gives_the_outputs_and_a_strategy_reads_the_labels(dataset, arrays):
    batch = select(
        dataset,
        "rlmba-h",
        3,
        label_field="ground_truth",
        embeddings="image",
        model=lambda view: {"logits": arrays[1][: view.count()]},
        classes=CLASSES,
        rng=0,
    )
    assert len(batch) == 3
    assert min(batch.positions) >= LABELED


def test_a_network_of_this_package_predicts_from_the_embeddings(dataset, arrays):
    class Network:
        classes = tuple(CLASSES)
        modalities = ("image",)

        def predict(self, samples):
            assert set(samples) == {"image"}
            p = np.exp(arrays[1])
            return type("P", (), {"probabilities": p / p.sum(1, keepdims=True)})

    given = {"label_field": None, "embeddings": {"image": "image"}, "model": Network()}
    batch = select(dataset, "margin", 3, **given)
    assert batch.positions.tolist() == np.argsort(-margin_difficulty(arrays[1]))[:3].tolist()
    with pytest.raises(UsageError, match="expected embeddings="):
        select(dataset, "margin", 3, **given | {"embeddings": "image"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": N}, "34"),
        ({"embeddings": "imag"}, "expected one of the view's fields, got 'imag'"),
        (
            {"embeddings": None},
            "pass embeddings=FIELD. Fields with vectors in this view: image, text",
        ),
        ({"logits": None}, "pass logits=FIELD or model="),
        ({"label_field": "truth"}, "label_field: expected one of the view's fields, got 'truth'"),
        ({"label_field": "image"}, "a field with one class"),
        ({"tag": " "}, "tag: expected a non-empty text"),
        ({"model": print}, "got both"),
        ({"view": [1, 2]}, "expected a dataset or view of FiftyOne, got list"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(dataset, change, message):
    given = {"view": dataset, "strategy": "rlmba-x", "n": 3, **GIVEN, **change}
    with pytest.raises(UsageError, match=message):
        select(given.pop("view"), given.pop("strategy"), given.pop("n"), **given)
    assert not dataset.has_field("rlmba_rank")
    assert dataset.count_sample_tags() == {}


def test_vectors_that_are_missing_or_of_another_width(dataset):
    dataset.add_sample_field("empty", fo.VectorField)
    with pytest.raises(UsageError, match="expected vectors in the field 'empty', got none in 40"):
        select(dataset, "coreset", 3, label_field=None, embeddings="empty")
    sample = dataset.skip(7).first()
    sample["image"] = np.zeros(9)
    sample.save()
    with pytest.raises(DataError, match=rf"shape \(9,\).*{sample.id}"):
        select(dataset, "coreset", 3, label_field=None, embeddings="image")


def test_labels_that_are_not_classes_and_fields_of_the_same_name(dataset):
    with pytest.raises(DataError, match="expected one of the classes"):
        select(dataset, "rlmba-h", 3, classes=["a", "b", "c"], **GIVEN)
    with pytest.raises(UsageError, match="names of the 3 columns of the logits"):
        select(dataset, "rlmba-h", 3, classes=["a", "b"], **GIVEN)
    dataset.add_sample_field("difficulty", fo.StringField)
    with pytest.raises(UsageError, match="field 'difficulty': expected a FloatField"):
        select(dataset, "margin", 3, **GIVEN)


def test_a_field_that_cannot_be_edited_is_refused_before_anything_is_written(dataset):
    field = dataset.get_field("tags")
    field.read_only = True
    field.save()
    with pytest.raises(UsageError, match="field 'tags': expected a field that can be edited"):
        select(dataset, "margin", 3, **GIVEN)
    assert not dataset.has_field("rlmba_rank")


def test_samples_that_are_deleted_while_fields_are_read(dataset, arrays):
    def model(view):
        dataset.delete_samples([view.last()])
        return {"logits": arrays[1]}

    with pytest.raises(DataError, match="expected the same 40 samples"):
        select(dataset, "margin", 3, label_field=None, model=model)

    class Fields(dict):
        def items(self):
            dataset.delete_samples([dataset.first()])
            return super().items()

    fields = Fields(image="image", text="text")
    with pytest.raises(DataError, match="expected the same 39 samples"):
        select(dataset, "coreset", 3, label_field=None, embeddings=fields)
    assert not dataset.has_field("rlmba_rank")


def test_samples_that_are_deleted_during_the_selection(dataset):
    @dataclass(kw_only=True)
    class Deleting(Margin):
        def score(self, pool, context):
            dataset.delete_samples([pool.ids[0]])
            return np.arange(len(pool), 0, -1.0)

    with pytest.raises(DataError, match="expected the 3 selected samples in the dataset, got 2"):
        select(dataset, Deleting(), 3, **GIVEN)
    assert not dataset.has_field("rlmba_rank")


@pytest.fixture
def grouped(arrays):
    made = fo.Dataset()
    made.add_group_field("group", default="left")
    for i in range(20):
        group = fo.Group()
        made.add_samples(
            fo.Sample(
                filepath=f"/pictures/{i}-{side}.{kind}",
                group=group.element(side),
                image=arrays[0][i] + (side == "right"),
            )
            for side, kind in (("left", "jpg"), ("right", "mp4"))
        )
    yield made
    made.delete()


@pytest.mark.parametrize("side", ["left", "right"])
def test_one_slice_of_a_grouped_dataset(grouped, side):
    given = {"label_field": None, "embeddings": "image", "rng": 0}
    view = grouped.select_group_slices(side)
    batch = select(view, "coreset", 4, **given)
    assert set(view.match_tags("rlmba").values("id")) == set(batch.ids)
    assert sum(r is not None for r in view.values("rlmba_rank")) == 4
    grouped.group_slice = side
    again = select(grouped, "coreset", 2, **given)
    assert again.ids.tolist() == batch.ids[:2].tolist()
    assert set(view.match_tags("rlmba").values("id")) == set(again.ids)


@fiftyone_database.needs_server
@pytest.mark.parametrize("made", ["to_patches", "to_frames", "to_clips"])
def test_views_of_parts_of_samples_are_refused(made):
    dataset = fo.Dataset()
    video = fo.Sample(filepath="/clips/1.mp4")
    video.frames[1] = fo.Frame(filepath="/clips/1-1.jpg")
    boxes = fo.Detections(detections=[fo.Detection(label="cat", bounding_box=[0, 0, 1, 1])])
    picture = fo.Sample(filepath="/pictures/1.jpg", boxes=boxes)
    dataset.add_sample(picture if made == "to_patches" else video)
    views = {
        "to_patches": lambda: dataset.to_patches("boxes"),
        "to_frames": lambda: dataset.to_frames(sample_frames="dynamic"),
        "to_clips": lambda: dataset.to_clips([[(1, 1)]]),
    }
    try:
        with pytest.raises(UsageError, match="got a view of patches, frames or clips"):
            select(views[made](), "random", 1, label_field=None)
    finally:
        dataset.delete()
