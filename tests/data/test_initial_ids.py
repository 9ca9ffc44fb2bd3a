from __future__ import annotations

import json

import numpy as np
import pytest

from rlmba.data import InMemoryDataset, Pool, load_dataset
from rlmba.data.initial_ids import known_id, read_initial_ids
from rlmba.errors import DataError, UsageError
from tests.data.test_pool import check_partition, dataset
from tests.helpers import media_sets as ms


def named(ids, test=()):
    ids = [*ids, *test]
    return InMemoryDataset(
        "named",
        {"x": np.zeros((len(ids), 1), np.float32)},
        kinds={"x": "features"},
        labels=np.arange(len(ids)) % 2,
        classes=["a", "b"],
        ids=ids,
        split=np.arange(len(ids)) >= len(ids) - len(test),
    )


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        ("apple_pie_17", "apple_pie_17"),
        ("apple_pie_apple_pie_17.jpg", "apple_pie_17"),
        ("baby_back_ribs_baby_back_ribs_0.JPEG", "baby_back_ribs_0"),
        ("-1IlTIWPNs4_000027_000037", "-1IlTIWPNs4_000027_000037"),
        ("-1IlTIWPNs4_27_37", "-1IlTIWPNs4_000027_000037"),
        ("__2MwJ2uHu0_000004", "__2MwJ2uHu0_000004"),
        ("__2MwJ2uHu0_4_14", "__2MwJ2uHu0_000004"),
        ("apple_pie_pizza_17.jpg", None),
        ("apple_pie_apple_pie_18.jpg", None),
        ("apple_pie_apple_pie_17.txt", None),
        ("-1IlTIWPNs4_000028_000038", None),
        ("-1IlTIWPNs4", None),
        ("", None),
    ],
)
def test_ids_as_bmmal_writes_them(given, ours):
    known = {
        *("apple_pie_17", "baby_back_ribs_0"),
        *("-1IlTIWPNs4_000027_000037", "__2MwJ2uHu0_000004"),
    }
    assert known_id(given, known) == ours


def test_ids_as_other_programs_write_them(tmp_path):
    data = named(["7", "8", "007", "a b", "é"], test=["t"])
    file = tmp_path / "label.txt"
    file.write_text("\ufeff7.0\r\n007\r\na\xa0b\r\ne\u0301\r\n", encoding="utf-8")
    assert read_initial_ids(file, data) == ["7", "007", "a b", "é"]


def sounds(folder):
    """Names of clips as BMMAL's code has them: those of their sound files."""
    return [path.stem for path in folder.rglob("*.wav")]


@pytest.mark.filterwarnings("ignore:.*published:rlmba.errors.RlmbaWarning")
@pytest.mark.parametrize("name", ["food101", "kineticssound", "vggsound"])
def test_bmmals_names_of_the_samples_of_a_folder(name, tmp_path, monkeypatch):
    """Its ids of the training samples, from the very files that both codes read, are all of ours."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    root = tmp_path / "data"
    if name == "food101":
        ms.make_food101(root, "json")
        ids = [entry["id"] for entry in json.loads((root / "train.json").read_text())]
        tokenizer = {"tokenizer": "words"}
    elif name == "kineticssound":
        ms.make_kineticssound(root)
        ids, tokenizer = sounds(root / "train" / "audio"), {}
    else:
        ms.make_vggsound(root, "frames", place="kind")
        ids, tokenizer = sounds(root / "audio" / "train"), {}
    data = load_dataset(name, data_root=root, options={"observed_classes": True, **tokenizer})
    file = tmp_path / "label.txt"
    file.write_text("".join(f"{i}\n" for i in sorted(ids)))
    read = read_initial_ids(file, data)
    assert len(read) == len(ids) == 12
    assert set(read) == set(data.ids[data.train_positions].tolist())


def test_a_file_is_read_in_its_order(tmp_path):
    data = named(["pizza_1", "pizza_2", "sushi_1", "sushi_2"], test=["sushi_9"])
    file = tmp_path / "label.txt"
    file.write_bytes(b"\xef\xbb\xbfsushi_sushi_2.jpg\r\npizza_1\r\n\r\n  pizza_pizza_2.jpg\r\n")
    assert read_initial_ids(file, data) == ["sushi_2", "pizza_1", "pizza_2"]


@pytest.mark.parametrize(
    ("content", "error", "match"),
    [
        (b"", DataError, "empty file"),
        (b"\n \n", DataError, "empty file"),
        (
            b"pizza_1\nramen_1\nramen_2\n",
            DataError,
            r"2 of the 3 ids.*line 2: 'ramen_1'.*'pizza_1'",
        ),
        (b"pizza_1\npizza_pizza_1.jpg\n", DataError, r"'pizza_1' in lines 1 and 2"),
        (b"pizza_1\nsushi_9\n", DataError, "line 2: 'sushi_9' is in the test split"),
        (b"\xff\xfe\x00", DataError, "UTF-8"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, content, error, match):
    data = named(["pizza_1", "pizza_2", "sushi_1", "sushi_2"], test=["sushi_9"])
    file = tmp_path / "label.txt"
    file.write_bytes(content)
    with pytest.raises(error, match=match):
        read_initial_ids(file, data)


def test_files_that_are_not_there(tmp_path):
    data = named(["pizza_1", "sushi_1"])
    with pytest.raises(UsageError, match="no such file"):
        read_initial_ids(tmp_path / "label.txt", data)
    with pytest.raises(UsageError, match="found a folder; set initial_ids"):
        read_initial_ids(tmp_path, data)


def create(data, ids, n=None, fraction=0.1, seed=0):
    return Pool.create(
        data,
        validation_fraction=fraction,
        initial_labels=len(ids) if n is None else n,
        initial_sampling="stratified",
        rng=np.random.default_rng(seed),
        initial_ids=ids,
    )


def of_class(data, label, n):
    train = data.train_positions
    return data.ids[train[data.labels[train] == label][:n]].tolist()


def test_a_pool_starts_from_given_ids():
    data = dataset([100, 50, 10], test=9)
    ids = [*of_class(data, 2, 3), *of_class(data, 0, 40), *of_class(data, 1, 1)]
    pool = create(data, ids)
    check_partition(pool, data)
    assert pool.initial_ids.tolist() == ids
    np.testing.assert_array_equal(pool.labels, data.labels[pool.labeled])
    assert np.bincount(data.labels[pool.validation]).tolist() == [10, 5, 1]
    np.testing.assert_array_equal(create(data, ids).validation, pool.validation)
    assert create(data, ids, seed=1).validation.tolist() != pool.validation.tolist()


def test_validation_takes_what_given_ids_leave():
    data = dataset([100, 50, 10])
    ids = [*of_class(data, 0, 95), *of_class(data, 1, 2), *of_class(data, 2, 10)]
    pool = create(data, ids)
    assert np.bincount(data.labels[pool.validation], minlength=3).tolist() == [5, 5, 0]
    check_partition(pool, data)


def test_given_ids_that_no_pool_can_start_from():
    data = dataset([20, 20], test=2)
    ids = [*of_class(data, 0, 2), *of_class(data, 1, 2)]
    with pytest.raises(UsageError, match="expected 4, the number of initial ids, got 5"):
        create(data, ids, n=5)
    with pytest.raises(UsageError, match=r"got none of \['c1'\]; add ids of these classes"):
        create(data, ids[:2])
    with pytest.raises(DataError, match=f"'{ids[0]}' twice"):
        create(data, [*ids, ids[0]])
    with pytest.raises(DataError, match="training samples of 'toy'"):
        create(data, [*ids, str(data.ids[-1])])
    with pytest.raises(DataError, match="one of them not among the initial ids"):
        create(data, [*of_class(data, 0, 20), *of_class(data, 1, 20)])
