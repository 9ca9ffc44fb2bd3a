"""Pools in files: every format gives the same arguments, and errors name what is wrong."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from rlmba.data.arrays import read_arrays
from rlmba.data.batch_file import SUFFIXES, write_batch
from rlmba.data.pool_file import read_ids, read_labeled, read_pool
from rlmba.errors import DataError, StorageError, UsageError
from rlmba.tables import check_target

N = 12


@pytest.fixture
def arrays(rng):
    return {
        "features": rng.normal(size=(N, 3)).astype(np.float32),
        "logits": rng.normal(size=(N, 4)).astype(np.float32),
        "ids": np.array([f"s{i}" for i in range(N)]),
    }


def parquet(path, columns):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)


def lists(a, *, fixed):
    pa = pytest.importorskip("pyarrow")
    if fixed:
        return pa.FixedSizeListArray.from_arrays(pa.array(a.ravel()), a.shape[1])
    return pa.array(a.tolist(), type=pa.list_(pa.float32()))


def write(path, arrays, kind):
    if kind in ("npz", "compressed"):
        (np.savez if kind == "npz" else np.savez_compressed)(path, **arrays)
    elif kind == "safetensors":
        tensors = {k: v for k, v in arrays.items() if k != "ids"}
        save_file(tensors, path, metadata={"ids": json.dumps(arrays["ids"].tolist())})
    else:
        columns = {"id": arrays["ids"].tolist()}
        for k in ("features", "logits"):
            if kind == "numbered":
                columns |= {f"{k}_{j}": arrays[k][:, j] for j in range(arrays[k].shape[1])}
            else:
                columns[k] = lists(arrays[k], fixed=kind == "fixed")
        parquet(path, columns)


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        ("npz", "npz"),
        ("compressed", "npz"),
        ("safetensors", "safetensors"),
        ("fixed", "parquet"),
        ("lists", "parquet"),
        ("numbered", "parquet"),
    ],
)
def test_every_format(tmp_path, arrays, kind, suffix):
    path = tmp_path / f"pool.{suffix}"
    write(path, arrays, kind)
    read = read_pool(path).arguments
    assert set(read) == set(arrays)
    for name, a in arrays.items():
        np.testing.assert_array_equal(read[name], a)
        assert read[name].dtype == a.dtype or name == "ids"


def test_modalities_head_and_names_without_use(tmp_path, arrays, rng):
    f = arrays["features"]
    held = {
        "features/image": f,
        "features/text": 2 * f,
        "features": 3 * f,
        "logits/mm": arrays["logits"],
        "head/weight": np.ones((4, 3)),
        "head/bias": np.ones(4),
        "labeled": np.arange(2),
        "y": np.ones(3),
    }
    np.savez(tmp_path / "pool.npz", **held)
    read = read_pool(tmp_path / "pool.npz")
    assert read.unused == ("y",)
    assert list(read.arguments["features"]) == ["image", "text", "mm"]
    np.testing.assert_array_equal(read.arguments["features"]["mm"], 3 * f)
    assert list(read.arguments["logits"]) == ["mm"]
    assert [a.shape for a in read.arguments["head"]] == [(4, 3), (4,)]
    assert read.arguments["labeled"].tolist() == [0, 1]


def test_npz_members_are_mapped_where_they_lie_aligned(tmp_path, rng):
    held = {"a" * k: rng.normal(size=(50, 5)).astype(np.float32) for k in range(1, 9)}
    held["fortran"] = np.asfortranarray(held["a"])
    held["scalar"], held["none"] = np.float32(3), np.empty((0, 4))
    np.savez(tmp_path / "x.npz", **held)
    read = read_arrays(tmp_path / "x.npz")
    mapped = [isinstance(a, np.memmap) for a in read.values()]
    assert any(mapped)
    assert list(read) == list(held)
    for name, a in held.items():
        np.testing.assert_array_equal(read[name], a)
        assert read[name].flags.aligned


def test_npy_is_mapped(tmp_path, arrays):
    np.save(tmp_path / "f.npy", arrays["features"])
    read = read_pool(tmp_path / "f.npy", npy_holds="features").arguments
    assert isinstance(read["features"], np.memmap)
    with pytest.raises(UsageError, match="--npy-holds"):
        read_pool(tmp_path / "f.npy")
    with pytest.raises(DataError, match=r"names of rlmba\.select's arguments"):
        read_pool(tmp_path / "f.npy", npy_holds="nonsense")


def test_bfloat16(tmp_path):
    from safetensors.torch import save_file as save_tensors

    tensor = torch.randn(N, 3).bfloat16()
    save_tensors({"features": tensor}, tmp_path / "x.safetensors")
    read = read_pool(tmp_path / "x.safetensors").arguments["features"]
    np.testing.assert_array_equal(read, tensor.float().numpy())


def test_parquet_mask_and_labels(tmp_path, arrays):
    mask = np.arange(N) % 3 == 0
    columns = {"id": np.arange(N), "labeled": mask, "labels": np.arange(N) % 4}
    parquet(tmp_path / "x.parquet", columns | {"logits": lists(arrays["logits"], fixed=True)})
    read = read_pool(tmp_path / "x.parquet").arguments
    np.testing.assert_array_equal(read["labeled"], mask)
    np.testing.assert_array_equal(read["labels"], (np.arange(N) % 4)[mask])


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"features_0": [1.0], "features_2": [1.0]}, "features_1 is missing"),
        ({"features": [[1.0], [1.0, 2.0]]}, "lists of equal length"),
        ({"features": [[1.0], None]}, "got null"),
        ({"features": [[1.0], [None]]}, "number everywhere"),
        ({"other": [1.0]}, "with the names of rlmba.select's"),
    ],
)
def test_bad_parquet(tmp_path, columns, match):
    parquet(tmp_path / "x.parquet", columns)
    with pytest.raises(DataError, match=match):
        read_pool(tmp_path / "x.parquet")


@pytest.mark.parametrize("suffix", ["npz", "npy", "parquet", "safetensors"])
def test_damaged_files(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    path.write_bytes(b"\x10" + b"nonsense" * 20)
    with pytest.raises(DataError, match=f"readable .{suffix}"):
        read_pool(path, npy_holds="features")


def test_truncated_npz(tmp_path, arrays):
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="truncated"):
        read_pool(path)


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_pool(tmp_path / "x.npz")
    with pytest.raises(UsageError, match=r"expected a file of \.npz"):
        read_pool(tmp_path / "x.h5")
    np.savez(tmp_path / "o.npz", features=np.array([None], dtype=object))
    with pytest.raises(DataError, match="pickle"):
        read_pool(tmp_path / "o.npz")
    np.savez(tmp_path / "h.npz", **{"head/weight": np.ones((2, 2))})
    with pytest.raises(DataError, match="only head/weight"):
        read_pool(tmp_path / "h.npz")


class TestIds:
    @pytest.mark.parametrize("suffix", ["txt", "csv", "json", "npy", "parquet", "npz"])
    def test_forms(self, tmp_path, suffix):
        ids = ["a", "b,c", "ü"]
        path = tmp_path / f"ids.{suffix}"
        if suffix == "txt":
            path.write_text("\n".join(ids), encoding="utf-8")
        elif suffix == "csv":
            path.write_text('rank,id\n1,a\n2,"b,c"\n3,ü\n', encoding="utf-8")
        elif suffix == "json":
            path.write_text(json.dumps(ids), encoding="utf-8")
        elif suffix == "npy":
            np.save(path, np.array(ids))
        elif suffix == "npz":
            np.savez(path, ids=np.array(ids))
        else:
            parquet(path, {"id": ids})
        assert read_ids(path).tolist() == ids

    @pytest.mark.parametrize(
        ("name", "text", "match"),
        [
            ("x.csv", "name\na\n", "expected a column 'id'"),
            ("x.json", "{", "expected a JSON list of ids"),
            ("x.json", "3", "expected a JSON list of ids"),
            ("x.json", '{"samples": [{}]}', "row 1: expected an id"),
            ("x.csv", "id,n\na,1\n,2\n", "line 3: expected an id, got an empty cell"),
        ],
    )
    def test_bad(self, tmp_path, name, text, match):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=match):
            read_ids(tmp_path / name)

    def test_no_file(self, tmp_path):
        with pytest.raises(DataError):
            read_ids(tmp_path / "x.txt")
        np.savez(tmp_path / "x.npz", other=np.ones(3))
        with pytest.raises(DataError):
            read_ids(tmp_path / "x.npz")


class TestLabeled:
    def test_lists_of_ids(self, tmp_path):
        (tmp_path / "a.csv").write_text("id\ns3\ns1\ns3\n")
        (tmp_path / "b.txt").write_text("s1\ns0\n")
        ids = np.array(["s0", "s1", "s2", "s3"])
        read = read_labeled([tmp_path / "a.csv", tmp_path / "b.txt"], ids)
        assert read["labeled"].tolist() == [0, 1, 3]
        assert read_labeled([], ids) == {}

    def test_integer_ids(self, tmp_path):
        (tmp_path / "a.csv").write_text("id\n20\n7\n")
        found = read_labeled([tmp_path / "a.csv"], np.array([7, 100, 20]))
        assert found["labeled"].tolist() == [0, 2]

    def test_lists_that_other_programs_have_saved(self, tmp_path):
        ids = np.array(["007", "7", "=1", "a b", "ü"])
        for name, text in {
            "a.txt": "\ufeff007\r\n7.0\r\n\r\n=1\r\na\xa0b\r\n",
            "b.csv": "\ufeffID;label\r\n'007;x\r\n7;\r\n'=1;\r\n a  b;y\r\n;\r\n",
            "c.tsv": "id\tlabel\n007\tx\n7,0\t\n=1\t\na b\ty\n",
            "d.jsonl": '{"id": "007"}\n{"id": 7.0}\n{"id": "=1"}\n{"id": "a b"}\n',
            "e.json": '["007", 7, "=1", "a b"]',
            "f.json": '[{"id": "007"}, {"id": 7}, {"id": "=1", "n": 1}, {"id": "a b"}]',
        }.items():
            (tmp_path / name).write_text(text, encoding="utf-8", newline="")
            assert read_labeled([tmp_path / name], ids)["labeled"].tolist() == [0, 1, 2, 3], name
        (tmp_path / "u.txt").write_bytes("ü\r\n".encode("utf-16"))
        assert read_labeled([tmp_path / "u.txt"], ids)["labeled"].tolist() == [4]

    @pytest.mark.parametrize(
        "values",
        [[7, 8], [7.0, 8.0], ["7", "8"], [b"7", b"8"], [Decimal("7.0"), Decimal(8)], "dictionary"],
    )
    def test_columns_of_parquet(self, tmp_path, values):
        pa = pytest.importorskip("pyarrow")
        if isinstance(values, str):
            values = pa.array(["7", "8"]).dictionary_encode()
        parquet(tmp_path / "l.parquet", {"id": values, "label": [None, "x"]})
        for ids in (np.array([6, 7, 8]), np.array(["6", "7", "8"])):
            assert read_labeled([tmp_path / "l.parquet"], ids)["labeled"].tolist() == [1, 2]
        when = pa.array([datetime(2020, 1, 1), datetime(2020, 1, 2)], pa.timestamp("ns"))
        parquet(tmp_path / "l.parquet", {"id": when})
        ids = np.array(["2020-01-02T00:00:00", "2020-01-01T00:00:00"])
        assert read_labeled([tmp_path / "l.parquet"], ids)["labeled"].tolist() == [0, 1]

    def test_unknown_ids(self, tmp_path):
        (tmp_path / "a.csv").write_text("id\ns0\nnobody\n")
        with pytest.raises(DataError, match=r"'nobody' is not in the pool \(1 are not\)"):
            read_labeled([tmp_path / "a.csv"], np.array(["s0", "zz"]))
        with pytest.raises(DataError, match="not in the pool"):
            read_labeled([tmp_path / "a.csv"], np.array([], dtype=np.str_))
        with pytest.raises(UsageError, match="is not a position, and the pool has no ids"):
            read_labeled([tmp_path / "a.csv"], None)

    def test_features_and_positions(self, tmp_path, arrays):
        f = arrays["features"]
        np.savez(tmp_path / "f.npz", features=f, labels=np.arange(N))
        np.save(tmp_path / "p.npy", np.array([1, 2]))
        np.save(tmp_path / "ids.npy", arrays["ids"][3:5])
        read = read_labeled([tmp_path / "f.npz"], None)
        np.testing.assert_array_equal(read["labeled"], f)
        np.testing.assert_array_equal(read["labels"], np.arange(N))
        assert read_labeled([tmp_path / "p.npy"], None)["labeled"].tolist() == [1, 2]
        assert read_labeled([tmp_path / "ids.npy"], arrays["ids"])["labeled"].tolist() == [3, 4]
        with pytest.raises(UsageError, match="must be the only file"):
            read_labeled([tmp_path / "f.npz", tmp_path / "p.npy"], None)


class TestBatchFile:
    batch = {
        "strategy": "margin",
        "positions": np.array([7, 2]),
        "scores": np.array([0.1 + 0.2, 1e-17]),
    }

    @pytest.mark.parametrize(
        "ids", [np.array(["x", 'y,"z']), np.array([10, 20]), np.array([b"x", b"y"])]
    )
    @pytest.mark.parametrize("suffix", ["csv", "json", "npy", "parquet"])
    def test_ids_come_back(self, tmp_path, ids, suffix):
        if suffix == "parquet":
            pytest.importorskip("pyarrow")
        path = tmp_path / f"batch.{suffix}"
        check_target(path, suffixes=SUFFIXES)
        write_batch(path, ids=ids, **self.batch)
        text = ids.astype(np.str_)
        np.testing.assert_array_equal(read_ids(path).astype(np.str_), text)

    def test_scores_are_exact(self, tmp_path):
        import csv

        write_batch(tmp_path / "b.csv", ids=np.array(["x", "y"]), **self.batch)
        rows = list(csv.DictReader((tmp_path / "b.csv").open()))
        assert [float(r["score"]) for r in rows] == self.batch["scores"].tolist()
        assert [(r["rank"], r["position"]) for r in rows] == [("1", "7"), ("2", "2")]

    def test_an_empty_batch(self, tmp_path):
        none = np.empty(0, dtype=np.int64)
        for suffix in ("csv", "json", "npy"):
            path = tmp_path / f"b.{suffix}"
            write_batch(path, strategy="x", ids=none, positions=none, scores=np.empty(0))
            assert len(read_ids(path)) == 0

    def test_targets(self, tmp_path):
        with pytest.raises(UsageError, match=r"ending in \.csv"):
            check_target(tmp_path / "b.txt")
        with pytest.raises(StorageError, match="no such folder"):
            check_target(tmp_path / "no" / "b.csv")
        (tmp_path / "b.csv").write_text("mine")
        with pytest.raises(UsageError, match="--force"):
            check_target(tmp_path / "b.csv")
        check_target(tmp_path / "b.csv", overwrite=True)
        (tmp_path / "d.csv").mkdir()
        with pytest.raises(UsageError, match="exists already"):
            check_target(tmp_path / "d.csv", overwrite=True)
