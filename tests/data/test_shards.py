"""Pools in shards: every format, row ranges, and damaged or differing shards."""

from __future__ import annotations

import numpy as np
import pytest

from rlmba.data.shards import ShardedPool
from rlmba.errors import DataError, UsageError

SIZES = (4, 0, 1, 7)


@pytest.fixture
def arrays(rng):
    n = sum(SIZES)
    return {
        "ids": np.array([f"s{i}" for i in range(n)]),
        "features": rng.normal(size=(n, 3)).astype(np.float32),
        "logits/a": rng.normal(size=(n, 2)),
        "labeled": rng.random(n) < 0.5,
    }


def parts(arrays):
    begin = 0
    for size in SIZES:
        yield {name: a[begin : begin + size] for name, a in arrays.items()}
        begin += size


def write_parquet(path, part, **options):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    columns = {}
    for name, a in part.items():
        if a.ndim == 2:
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(a.ravel()), a.shape[1])
        else:
            kind = pa.string() if a.dtype.kind == "U" else pa.bool_()
            columns["id" if name == "ids" else name] = pa.array(a.tolist(), kind)
    pq.write_table(pa.table(columns), f"{path}.parquet", **options)


def write_lance(path, part):
    lance = pytest.importorskip("lance")
    import pyarrow.parquet as pq

    write_parquet(path, part)
    file = path.with_name(f"{path.name}.parquet")
    lance.write_dataset(pq.read_table(file), f"{path}.lance")
    file.unlink()


def write_npz(path, part):
    np.savez(f"{path}.npz", **part)


def write_npy(path, part):
    for name, a in part.items():
        file = path / f"{name}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, a)


def write_tensors(path, part):
    from safetensors.numpy import save_file

    save_file(
        {k: np.ascontiguousarray(a) for k, a in part.items() if k != "ids"},
        f"{path}.safetensors",
        metadata={"ids": '["' + '", "'.join(part["ids"]) + '"]'}
        if len(part["ids"])
        else {"ids": "[]"},
    )


def write_arrow(path, part):
    datasets = pytest.importorskip("datasets")
    columns = {name: a.tolist() for name, a in part.items()}
    types = {
        "ids": datasets.Value("string"), "labeled": datasets.Value("bool"),
        "features": datasets.Sequence(datasets.Value("float32"), length=3),
        "logits/a": datasets.Sequence(datasets.Value("float64"), length=2),
    }  # fmt: skip
    made = datasets.Dataset.from_dict(columns, features=datasets.Features(types))
    made.save_to_disk(f"{path}-saved")
    found = sorted(path.parent.glob(f"{path.name}-saved/*.arrow"))
    for file in found:
        file.rename(f"{path}.arrow")


WRITERS = [write_parquet, write_npz, write_npy, write_tensors, write_arrow, write_lance]


@pytest.mark.parametrize("write", WRITERS)
def test_ranges_and_rows_of_every_format(tmp_path, arrays, write):
    folder = tmp_path / "pool"
    folder.mkdir()
    for k, part in enumerate(parts(arrays), start=8):  # part-10 comes after part-9
        write(folder / f"part-{k}", part)  # nothing is saved of an empty data set
    pool = ShardedPool(folder)
    assert pool.rows == sum(SIZES)
    assert [p.name.partition(".")[0] for p in pool.paths] == [
        f"part-{k}" for k in range(8, 12) if k != 9 or write is not write_arrow
    ]
    assert set(pool.columns) == set(arrays)
    assert pool.columns["features"].width == 3
    assert pool.columns["features"].dtype == np.float32
    for begin, end, size in ((0, None, None), (0, 12, 1), (3, 9, 2), (5, 5, None)):
        found = list(pool.blocks(list(arrays), begin, end, size))
        assert all(len(b["ids"]) <= (size or 99) for _, b in found)
        for name, a in arrays.items():
            got = [b[name] for _, b in found]
            joined = np.concatenate(got) if got else a[:0]
            np.testing.assert_array_equal(joined, a[begin:end])
        at = begin
        for row, block in found:
            assert row == at
            at += len(block["ids"])
    rows = np.array([11, 0, 4, 11, 6])
    for name, a in pool.take(list(arrays), rows).items():
        np.testing.assert_array_equal(a, arrays[name][rows])
    assert pool.place(5).endswith("row 0")
    assert "part-11" in pool.place(5)


def test_row_groups_and_numbered_columns(tmp_path, rng):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    x = rng.normal(size=(10, 3))
    table = pa.table({"id": list(range(10)), **{f"features_{i}": x[:, i] for i in range(3)}})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=4)
    pool = ShardedPool(tmp_path / "a.parquet")
    assert pool.columns["features"].width == 3
    np.testing.assert_array_equal(
        np.concatenate([b["features"] for _, b in pool.blocks(["features"], 3, 9)]), x[3:9]
    )
    np.testing.assert_array_equal(pool.take(["ids"], np.array([9, 2]))["ids"], [9, 2])


def test_modalities_with_numbers_in_their_names(tmp_path, rng):
    """Only columns of single numbers are columns of an array."""
    x = {f"features/cam_{i}": rng.normal(size=(6, 3)).astype(np.float32) for i in range(2)}
    write_parquet(tmp_path / "part-0", x)
    pool = ShardedPool(tmp_path)
    assert {name: str(column) for name, column in pool.columns.items()} == dict.fromkeys(
        x, "3 x float32"
    )
    for _, block in pool.blocks(list(x), 1, 5):
        for name, a in x.items():
            np.testing.assert_array_equal(block[name], a[1:5])


@pytest.mark.parametrize("kind", ["string", "large_string", "int64", "float16", "list"])
def test_types_are_those_of_the_rows(tmp_path, kind):
    """Whether they are known from the file's schema or from its first row."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    cells = {"list": [[1.0, 2.0], [3.0, 4.0]], "float16": np.array([1, 2], np.float16)}
    values = cells.get(kind, ["1", "2"] if "string" in kind else [1, 2])
    type_ = pa.list_(pa.float64()) if kind == "list" else getattr(pa, kind)()
    pq.write_table(
        pa.table({"id": ["a", "b"], "x": pa.array(values, type_)}), tmp_path / "a.parquet"
    )
    pool = ShardedPool(tmp_path)
    ((_, block),) = pool.blocks(["ids", "x"])
    for name, a in block.items():
        column = pool.columns[name]
        assert column.dtype.kind == a.dtype.kind
        assert column.width == (None if a.ndim == 1 else a.shape[1])
    assert pool.columns["x"].nbytes == (
        64 if "string" in kind else 16 if kind == "list" else block["x"].itemsize
    )


def test_a_file_that_changes_while_it_is_read(tmp_path, arrays):
    for k, part in enumerate(parts(arrays)):
        write_parquet(tmp_path / f"part-{k}", part)
    pool = ShardedPool(tmp_path)
    blocks = pool.blocks(["features"], size=2)
    next(blocks)
    write_parquet(tmp_path / "part-3", {k: a[::-1] for k, a in list(parts(arrays))[3].items()})
    with pytest.raises(DataError, match=r"part-3.*: the shard has changed since it was opened"):
        list(blocks)
    with pytest.raises(DataError, match=r"part-3.* has changed"):
        pool.take(["features"], np.array([6]))
    assert len(list(ShardedPool(tmp_path).blocks(["features"], size=2))) == 7
    (tmp_path / "part-3.parquet").unlink()
    with pytest.raises(DataError, match=r"part-3.* has changed"):
        pool.take(["features"], np.array([6]))


def test_a_folder_of_npy_files_is_one_shard(tmp_path, arrays):
    write_npy(tmp_path / "pool", arrays)
    assert ShardedPool(tmp_path / "pool").rows == sum(SIZES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: p | {"features": p["features"][:, :2]},
            r"'features': expected 3 x float32 as in .*part-0",
        ),
        (lambda p: p | {"features": p["features"].astype(np.float64)}, "got 3 x float64"),
        (lambda p: {k: a for k, a in p.items() if k != "labeled"}, "'labeled' is missing"),
        (
            lambda p: p | {"labels": np.arange(len(p["ids"]))},
            r"part-0.npz: expected the columns of .*'labels'",
        ),
        (lambda p: p | {"labeled": p["labeled"][1:]}, "expected one row a sample in every array"),
    ],
)
def test_shards_that_differ(tmp_path, arrays, change, message):
    made = list(parts(arrays))
    write_npz(tmp_path / "part-0", made[0])
    write_npz(tmp_path / "part-1", change(made[3]))
    with pytest.raises(DataError, match=message):
        ShardedPool(tmp_path)


@pytest.mark.parametrize(
    "write", [write_parquet, write_npz, write_tensors, write_arrow, write_lance]
)
def test_a_damaged_shard_is_named(tmp_path, arrays, write):
    for k, part in enumerate(parts(arrays)):
        write(tmp_path / f"part-{k}", part)
    inside = [p for p in tmp_path.rglob("*") if p.is_file() and "part-3." in str(p)]
    file = max(inside, key=lambda p: p.stat().st_size)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="part-3"):
        list(ShardedPool(tmp_path).blocks(["features"]))


def test_a_shard_that_changes_while_it_is_read(tmp_path, arrays):
    made = list(parts(arrays))
    write_npy(tmp_path / "part-0", made[0])
    pool = ShardedPool([tmp_path / "part-0"])
    pool._shards[0]._arrays["features"] = made[0]["features"][:2]
    with pytest.raises(DataError, match=r"part-0: column 'features': .* has changed"):
        list(pool.blocks(["features"]))


def test_nothing_to_read(tmp_path):
    with pytest.raises(DataError, match=r"expected shards: files of \.parquet"):
        ShardedPool(tmp_path)
    with pytest.raises(UsageError, match="at least one shard"):
        ShardedPool([])
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"expected a shard: a file of \.parquet"):
        ShardedPool([tmp_path / "a.txt"])
