"""Labels, ids and splits of a manifest, and its pool."""

from __future__ import annotations

import json
import unicodedata
import warnings

import numpy as np
import pytest

from rlmba.data import Pool, load_manifest
from rlmba.errors import DataError, RlmbaWarning, UsageError
from rlmba.tables import write_table
from tests.helpers.manifest_helpers import SMALL, N, columns, written


def test_labels_known_unknown_and_as_numbers(folder):
    only = {k: columns()[k] for k in ("id", "age")}
    path = folder / "labels.jsonl"
    write_table(path, {**only, "label": [10, 9, None, 2] * 3})
    dataset = load_manifest(path)
    assert dataset.classes == ("2", "9", "10")
    assert dataset.labels[:4].tolist() == [2, 1, -1, 0]
    write_table(path, only)
    dataset = load_manifest(path, classes=["a", "b"])
    assert dataset.classes == ("a", "b")
    assert (dataset.labels == -1).all()
    assert load_manifest(path).classes == ()


NUMBERED = {
    "floats": ([1.0, 0.0, None, 2.0] * 3, ("0", "1", "2"), [1, 0, -1, 2]),
    "fractions": ([1.0, 0.5, None, 2.0] * 3, ("0.5", "1", "2"), [1, 0, -1, 2]),
    "large": ([2**53, 2**53 + 1, None, 2**64 - 1] * 3, None, [0, 1, -1, 2]),
    "texts": (["1.0", "0", None, "nan"] * 3, ("0", "1.0", "nan"), [1, 0, -1, 2]),
    "accents": (["é", "e\u0301", None, "z"] * 3, ("z", "é"), [1, 1, -1, 0]),
}


@pytest.mark.parametrize("kind", NUMBERED)
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_labels_and_ids_mean_the_same_in_every_format(folder, kind, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    labels, classes, expected = NUMBERED[kind]
    path = folder / f"numbered.{suffix}"
    write_table(path, {"id": np.arange(N, dtype=float), "age": columns()["age"], "label": labels})
    dataset = load_manifest(path)
    assert dataset.classes == (classes or tuple(map(str, (2**53, 2**53 + 1, 2**64 - 1))))
    assert dataset.labels[:4].tolist() == expected
    assert dataset.ids.tolist() == [str(i) for i in range(N)]


def test_labels_of_listed_classes(folder):
    path = folder / "listed.jsonl"
    only = {k: columns()[k] for k in ("id", "age")}
    write_table(
        path, {**only, "label": [3.0, "3.0", "10.0", 10, None, "CAT", "3", True, "x ", "X", 3, 3]}
    )
    dataset = load_manifest(path, classes=["cat", "3", "10", "true", "x"])
    assert dataset.labels.tolist() == [1, 1, 2, 2, -1, 0, 1, 3, 4, 4, 1, 1]
    both = load_manifest(path, classes=["cat", "3", "10", "true", "x", "3.0"])
    assert both.labels.tolist() == [1, 5, 2, 2, -1, 0, 1, 3, 4, 4, 1, 1]


def test_a_missing_number_in_json_is_missing(folder):
    path = folder / "nan.jsonl"
    rows = [{"id": i, "age": 1.5 * i, "label": c, "split": s} for i, (c, s) in enumerate(
        [("a", "train"), (float("nan"), float("nan")), ("nan", None), ("b", "test")]
    )]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    dataset = load_manifest(path)
    assert dataset.classes == ("a", "b", "nan")
    assert dataset.labels.tolist() == [0, -1, 2, 1]
    path.write_text(json.dumps(rows[0]) + "\n" + json.dumps({**rows[1], "split": ["test"]}))
    with pytest.raises(DataError, match=r"line 2: column 'split': expected text or a number"):
        load_manifest(path)


def test_splits_and_v_of_the_manifest(folder):
    splits = ["train", "Val", "dev", "pool", "validation", "unlabeled", None, "eval", "TEST"] + [
        "train"
    ] * 3
    path = written(
        folder, split=splits, label=["a", "b", "a", None] + ["b", "a", "b", "a", None] + ["a"] * 3
    )
    with pytest.warns(RlmbaWarning, match="1 left out .a test row without a label.: 's/8'"):
        dataset = load_manifest(path, **SMALL)
    assert dataset.validation_positions.tolist() == [1, 2, 4]
    assert dataset.train_positions.tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10]
    assert dataset.ids[dataset.test_positions].tolist() == ["s/7"]


def make_pool(dataset, **changes):
    options = {"validation_fraction": 0.1, "initial_labels": 2, "initial_sampling": "stratified"}
    return Pool.create(dataset, **{**options, **changes}, rng=np.random.default_rng(0))


def test_a_pool_takes_v_of_the_data_set(folder):
    splits = ["val" if i in (2, 3, 7) else "train" for i in range(N)]
    dataset = load_manifest(written(folder, split=splits), **SMALL)
    pool = make_pool(dataset, validation_fraction=0.9)
    assert pool.validation.tolist() == [2, 3, 7]
    assert not np.intersect1d(pool.labeled, pool.validation).size
    assert len(pool.labeled) + len(pool.unlabeled) == 9
    with pytest.raises(DataError, match="outside the data set's own validation split, got 's/3'"):
        make_pool(dataset, initial_ids=["s/1", "s/3"])


def test_a_pool_needs_labels(folder):
    labels = ["a", "b", "a", "b", "a", "b"] + [None] * 6
    path = written(folder, label=labels, split=None)
    dataset = load_manifest(path, **SMALL)
    with pytest.raises(UsageError, match=r"6 of 12 training rows .* `rlmba init` .*unlabeled=drop"):
        make_pool(dataset)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RlmbaWarning)
        dropped = load_manifest(path, unlabeled="drop", **SMALL)
    assert len(dropped) == 6
    assert len(dropped.left_out) == 6
    assert len(make_pool(dropped).labeled) == 2
    path = written(folder, label=["a"] * N, split=None)
    with pytest.raises(DataError, match=r"expected two classes or more, got \['a'\]"):
        make_pool(load_manifest(path, **SMALL))


@pytest.mark.parametrize("values", [["-1"], [-1], [-1.0]])
def test_values_that_mean_no_label(folder, values):
    path = folder / "codes.jsonl"
    write_table(path, {**{k: columns()[k] for k in ("id", "age")}, "label": [1, 0, -1, 2] * 3})
    dataset = load_manifest(path, no_label=values)
    assert dataset.classes == ("0", "1", "2")
    assert dataset.labels[:4].tolist() == [1, 0, -1, 2]
    assert load_manifest(path, no_label=values, classes=["0", "1", "2"]).labels[2] == -1
    assert "-1" in load_manifest(path).classes
    with pytest.raises(UsageError, match="no_label: expected a list"):
        load_manifest(path, no_label="-1")


@pytest.mark.parametrize(("table", "disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_in_another_form_of_unicode_are_the_same_file(tmp_path, table, disk):
    name = unicodedata.normalize(disk, "café/été.txt")
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text("some words")
    written_as = unicodedata.normalize(table, "café/été.txt")
    (tmp_path / "m.csv").write_text(
        f"id,text_file,size\n0,{written_as},1\n" + "".join(f"{i},,{i}\n" for i in range(1, 6))
    )
    dataset = load_manifest(tmp_path / "m.csv")
    assert dataset.shown(0)["text"] == "some words"
