"""Ids of every kind through every format: what was selected is never selected again."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import rlmba
from rlmba.adapters.files import plan
from rlmba.data.pool_file import read_ids
from rlmba.errors import DataError, RlmbaWarning, ShapeError, UsageError
from rlmba.ids import IdIndex, as_ids, id_texts, not_storable
from rlmba.tables import write_table

pytest.importorskip("pyarrow")

N = 6
LOGITS = np.linspace(-1, 1, 2 * N, dtype=np.float32).reshape(N, 2) * [[1, -1]]
BATCHES = ("csv", "json", "npy", "parquet")

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6).filter(
    lambda text: not not_storable(text)
)
look_alikes = st.sampled_from(
    ["3", "3.0", "03", "003", "3,0", "-3", "1e3", "1000", "nan", "None", "NA", "true", "True", "é",
     "e\u0301", "a b", "a  b", "a\xa0b", "'007", "007", "=1+1", "18446744073709551615", "id", "\ufeffx"]
)  # fmt: skip
kinds = st.one_of(
    st.lists(texts, min_size=N, max_size=N, unique=True).map(np.array),
    st.lists(look_alikes, min_size=N, max_size=N, unique=True).map(np.array),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=N, max_size=N, unique=True).map(np.array),
    st.permutations(range(N)).map(np.array),
    st.lists(st.integers(0, 2**64 - 1), min_size=N, max_size=N, unique=True).map(
        lambda v: np.array(v, dtype=np.uint64)
    ),
    st.lists(st.integers(-128, 127), min_size=N, max_size=N, unique=True).map(
        lambda v: np.array(v, dtype=np.int16).astype(">i2")
    ),
    st.lists(texts, min_size=N, max_size=N, unique=True).map(
        lambda v: np.array([t.encode() for t in v])
    ),
)


def write_pool(folder: Path, ids: np.ndarray, form: str) -> dict[str, Path]:
    """A pool's file as arguments of plan, its ids within it or in another file."""
    if form == "parquet":
        logits = {f"logits_{j}": LOGITS[:, j] for j in range(2)}
        write_table(folder / "pool.parquet", {"id": ids, **logits})
        return {"pool": folder / "pool.parquet"}
    if form == "npz":
        np.savez(folder / "pool.npz", logits=LOGITS, ids=ids)
        return {"pool": folder / "pool.npz"}
    listed = ids.tolist()
    if form == "safetensors":
        save_file(
            {"logits": LOGITS}, folder / "p.safetensors", metadata={"ids": json.dumps(listed)}
        )
        return {"pool": folder / "p.safetensors"}
    np.savez(folder / "pool.npz", logits=LOGITS)
    path = folder / f"ids.{form}"
    if form == "npy":
        np.save(path, ids)
    elif form == "json":
        path.write_text(json.dumps(listed))
    else:
        write_table(path, {"n": range(N), "id": listed})
    return {"pool": folder / "pool.npz", "ids": path}


def select_all(folder: Path, given: dict[str, Path], formats: list[str]) -> list[np.ndarray]:
    """Batches of two until the pool is empty, each with those before it as labeled."""
    before: list[Path] = []
    batches = []
    for number, suffix in enumerate(formats):
        out = folder / f"batch{number}.{suffix}"
        job = plan(**given, n=2, strategy="margin", labeled=before, out=out)
        batches.append(job.run().batch)
        before.append(out)
        read = read_ids(out)
        found, unknown = IdIndex(batches[-1].ids).locate(id_texts(read))
        assert (found.tolist(), unknown) == ([0, 1], [])
        if suffix != "csv":  # which guards what would begin a formula
            assert id_texts(read) == id_texts(batches[-1].ids)
        if suffix != "csv" and batches[-1].ids.dtype.kind in "iu":
            assert read.dtype.kind in "iu"
    return batches


@settings(max_examples=50)
@given(
    kinds,
    st.sampled_from(["npz", "parquet", "safetensors", "npy", "json", "csv", "jsonl"]),
    st.lists(st.sampled_from(BATCHES), min_size=3, max_size=3),
)
@example(np.array([4, 3, 1, 0, 5, 2]), "npz", ["npy", "npy", "npy"])
@example(np.array([2**64 - 1, 2**63, 5, 2**53, 2**53 + 1, 0], np.uint64), "npz", list(BATCHES[1:]))
@example(np.array([2**64 - 1, 2**63, 5, 2**53, 2**53 + 1, 0], np.uint64), "json", list(BATCHES[1:]))
@example(np.array([2**70, -1, 2**64, 0, 1, 2], object), "json", ["npy", "parquet", "json"])
@example(np.array([1, "a", "2.0", 2, "b", "é"], object), "json", ["npy", "parquet", "json"])
@example(np.array(["3", "3.0", "03", "003", "-3", "3,0"]), "npz", ["csv", "csv", "csv"])
@example(np.array(["7.0", "8.0", "9.0", "10.0", "11.0", "12.0"]), "csv", ["csv", "npy", "parquet"])
@pytest.mark.slow
def test_no_sample_is_selected_twice(ids, form, formats):
    if ids.dtype.kind == "S":
        form = "npz"
    with TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("error", RlmbaWarning)
        batches = select_all(Path(name), write_pool(Path(name), ids, form), formats)
    assert sorted(int(p) for b in batches for p in b.positions) == list(range(N))
    expected = [id_texts(as_ids(ids))[p] for b in batches for p in b.positions]
    assert [text for b in batches for text in id_texts(b.ids)] == expected


@pytest.mark.parametrize("suffix", BATCHES)
def test_of_a_pool_without_ids_positions_come_back(tmp_path, suffix):
    np.savez(tmp_path / "pool.npz", logits=LOGITS)
    batches = select_all(tmp_path, {"pool": tmp_path / "pool.npz"}, [suffix] * 3)
    assert sorted(int(p) for b in batches for p in b.positions) == list(range(N))


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_a_batch_of_a_pool_with_ids_is_no_list_of_positions(tmp_path, suffix):
    np.savez(tmp_path / "pool.npz", logits=LOGITS, ids=np.array([1, 0, 3, 2, 5, 4]))
    np.savez(tmp_path / "bare.npz", logits=LOGITS)
    out = tmp_path / f"b.{suffix}"
    plan(tmp_path / "pool.npz", 2, strategy="margin", out=out).run()
    with pytest.raises(UsageError, match="selected from a pool with ids, but this pool has none"):
        plan(tmp_path / "bare.npz", 2, strategy="margin", labeled=[out], dry_run=True)


def test_a_batch_that_a_european_spreadsheet_has_saved(tmp_path):
    ids = np.array(["ä", "b;c", "3", "d e", "f", "g"])
    np.savez(tmp_path / "pool.npz", logits=LOGITS, ids=ids)
    out = tmp_path / "b.csv"
    batch = plan(tmp_path / "pool.npz", 4, strategy="margin", out=out).run().batch
    rows = ["rank;id;position;score"]
    for rank, (id_, p) in enumerate(zip(batch.ids, batch.positions, strict=True), start=1):
        name = {"b;c": '"b;c"', "3": "3,0", "d e": "d\xa0e"}.get(id_, id_)
        rows.append(f"{rank};{name};{p};-0,12345")
    text = "\r\n".join([*rows, ";;;", ";;;", ""])
    for encoding in ("utf-8-sig", "utf-16"):
        out.write_bytes(text.encode(encoding))
        job = plan(tmp_path / "pool.npz", 2, strategy="margin", labeled=[out], dry_run=True)
        assert sorted(np.flatnonzero(job.arguments["labeled"])) == sorted(batch.positions)
    out.write_text(text + "5;;9;1\r\n")
    with pytest.raises(DataError, match="line 8: expected an id, got an empty cell"):
        plan(tmp_path / "pool.npz", 2, strategy="margin", labeled=[out], dry_run=True)


def test_integers_of_a_pool_with_ids_are_ids(tmp_path):
    np.savez(tmp_path / "pool.npz", logits=LOGITS, ids=np.array([10, 11, 12, 13, 14, 1]))
    np.save(tmp_path / "l.npy", np.array([1, 12]))
    given = {"pool": tmp_path / "pool.npz", "n": 1, "strategy": "margin", "dry_run": True}
    job = plan(**given, labeled=[tmp_path / "l.npy"])
    assert np.flatnonzero(job.arguments["labeled"]).tolist() == [2, 5]
    np.save(tmp_path / "l.npy", np.array([1, 2]))
    with pytest.raises(DataError, match=r"id '2' is not in the pool .*use a mask"):
        plan(**given, labeled=[tmp_path / "l.npy"])
    np.save(tmp_path / "l.npy", np.arange(N) == 3)
    job = plan(**given, labeled=[tmp_path / "l.npy"])
    assert np.flatnonzero(job.arguments["labeled"]).tolist() == [3]


@pytest.mark.parametrize(
    ("ids", "match"),
    [
        (np.array([" a", "b", "c", "d", "e", "f"]), "' a' has blanks around it"),
        (np.array(["", "b", "c", "d", "e", "f"]), "'' is empty"),
        (np.array(["a\0b", "b", "c", "d", "e", "f"]), "has a NUL byte"),
        (np.array([b"\xff", b"b", b"c", b"d", b"e", b"f"]), "expected text in UTF-8"),
        (np.arange(N) / 2, r"got dtype float64.*\.astype\(str\)"),
        (np.arange(N).astype("datetime64[D]"), "give dates as text"),
        (np.arange(N) == 1, "booleans cannot distinguish"),
        (np.array([3, 1, 3, 4, 5, 6]), "3 is at positions 0 and 2"),
    ],
)
def test_ids_that_no_file_gives_back_are_refused_before_the_work(tmp_path, ids, match):
    np.savez(tmp_path / "pool.npz", logits=LOGITS, ids=ids)
    with pytest.raises((DataError, ShapeError), match=match):
        plan(tmp_path / "pool.npz", 2, strategy="margin", out=tmp_path / "b.csv")


class TestArguments:
    def test_objects_keep_their_kind(self):
        def ids(given):
            return rlmba.select("margin", logits=LOGITS, ids=given, n=N).ids

        integers = [5, 1, 2**63, 7, 8, 9]
        for given_ in (integers, np.array(integers, dtype=object)):
            assert ids(given_).dtype == np.uint64
            assert sorted(ids(given_).tolist()) == sorted(integers)
        assert ids(np.array([1, 2, 3, 4, 5, 6], dtype=object)).dtype == np.int64
        assert set(ids([2**70, -1, 2, 3, 4, 5]).tolist()) == {2**70, -1, 2, 3, 4, 5}
        assert set(ids([1, "a", "b", 2, "1.0", "c"]).tolist()) == {1, "a", "b", 2, "1.0", "c"}
        with pytest.raises(DataError, match="'1' is at positions 0 and 5"):
            ids([1, "a", "b", 2, "c", "1"])
        for wrong, match in (
            ([1, None, 2, 3, 4, 5], "got nothing at position 1"),
            ([1, float("nan"), 2, 3, 4, 5], "got nothing at position 1"),
            ([1, 2.5, 2, 3, 4, 5], r"got 2.5 at position 1; floats"),
            ([1, True, 2, 3, 4, 5], "got True at position 1; booleans"),
        ):
            with pytest.raises(ShapeError, match=match):
                ids(wrong)

    def test_other_libraries(self):
        pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
        for given_ in (
            pandas.Series(["a", "b", "c", "d", "e", "f"]),
            pandas.Index(range(10, 16)),
            pandas.Series([1, 2, 3, 4, 5, 6], dtype="Int64"),
            pandas.Series(list("abcdef"), dtype="category"),
            pyarrow.array(list("abcdef")),
            pyarrow.chunked_array([[1, 2, 3], [4, 5, 6]]),
            pyarrow.array(list("abcdef")).dictionary_encode(),
        ):
            batch = rlmba.select("margin", logits=LOGITS, ids=given_, n=2)
            values = given_.to_pylist() if hasattr(given_, "to_pylist") else list(given_)
            assert [values[p] for p in batch.positions] == batch.ids.tolist()
        with pytest.raises(ShapeError, match="got nothing at position 5"):
            rlmba.select("margin", logits=LOGITS, ids=pandas.Series([*"abcde", None]), n=1)

    def test_labeled_by_their_ids(self):
        given_ = {"logits": LOGITS, "n": 3}
        for ids in (
            np.array(list("abcdef")),
            np.arange(100, 100 + N),
            [2**63 + i for i in range(N)],
        ):
            first = rlmba.select("margin", ids=ids, **given_)
            for labeled in (first.ids, first.ids.tolist(), first.positions):
                second = rlmba.select("margin", ids=ids, labeled=labeled, **given_)
                assert not set(first.positions) & set(second.positions)
        with pytest.raises(DataError, match=r"id 'x' is not in the pool \(1 are not\)"):
            rlmba.select("margin", ids=list("abcdef"), labeled=["a", "x"], **given_)
        with pytest.raises(UsageError, match="expected positions for a pool without ids, got 'a'"):
            rlmba.select("margin", labeled=["a"], **given_)
        with pytest.raises(UsageError, match=r"could be either.*np\.isin"):
            rlmba.select("margin", ids=[3, 4, 5, 0, 1, 2], labeled=[0, 3], **given_)
        with pytest.raises(UsageError, match="could be either"):
            rlmba.select("margin", ids=[13, 4, 5, 10, 11, 12], labeled=[0, 4], **given_)
        with pytest.raises(DataError, match="id '7' is not in the pool"):
            rlmba.select("margin", ids=[13, 4, 5, 10, 11, 12], labeled=[13, 7], **given_)
        with pytest.raises(DataError, match="repeats"):
            rlmba.select("margin", ids=list("abcdef"), labeled=["a", "a"], **given_)

    @pytest.mark.parametrize("name", ["ids", "labeled"])
    def test_masked_arrays_are_refused(self, name):
        arrays = {"logits": LOGITS, "labeled": np.array([0, 1]), "ids": np.arange(N) + 50}
        arrays[name] = np.ma.masked_array(arrays[name], mask=False)
        with pytest.raises(ShapeError, match=f"{name}: expected a plain array, got a masked array"):
            rlmba.select("margin", n=1, **arrays)
