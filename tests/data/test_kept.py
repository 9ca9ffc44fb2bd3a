"""Decoded media that are kept by the content of their files."""

from __future__ import annotations

import csv
import pickle
import shutil
import warnings
from collections import namedtuple

import numpy as np
import pytest
from PIL import Image

from rlmba.data import load_digits, load_manifest
from rlmba.data.media.kept import KeptReader, decoded_bytes, keep_decoded
from rlmba.data.media.reader import RawReader
from rlmba.errors import RlmbaWarning
from rlmba.training import Loader

N = 6
GIGABYTE = 10**9


def picture(file, seed):
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8)).save(file)


@pytest.fixture
def pool(tmp_path):
    for i in range(N):
        picture(tmp_path / f"{i}.png", i)
    write(tmp_path, range(N))
    return tmp_path


def write(folder, numbers):
    with (folder / "pool.csv").open("w", newline="") as file:
        rows = [(i, f"{i}.png", f"a text of {i}", 0.5 * i) for i in numbers]
        csv.writer(file).writerows([("id", "image", "text", "age"), *rows])


@pytest.fixture
def decoded(monkeypatch):
    """Positions that were decoded, in this process."""
    calls = []
    original = RawReader.decoded
    monkeypatch.setattr(
        RawReader, "decoded", lambda self, p: (calls.append(p), original(self, p))[1]
    )
    return calls


def opened(pool, most=GIGABYTE, **options):
    data = load_manifest(pool / "pool.csv", image_side=32, tokens=8, **options)
    keep_decoded(data, pool / "decoded", most)
    return data


def files(pool):
    return sorted((pool / "decoded").glob("??/*"))


def read(data):
    return [data.reader.read(i) for i in range(len(data))]


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert set(a) == set(b)
        for m, x in b.items():
            assert (a[m] is None) == (x is None)
            assert x is None or (a[m].dtype == x.dtype and np.array_equal(a[m], x))


def test_a_sample_is_decoded_once(pool, decoded):
    plain = load_manifest(pool / "pool.csv", image_side=32, tokens=8)
    expected = read(plain)
    decoded.clear()
    assert_same(read(opened(pool)), expected)
    assert decoded == list(range(N))
    decoded.clear()
    again = opened(pool)
    assert_same(read(again), expected)
    assert_same(read(pickle.loads(pickle.dumps(again))), expected)
    assert not decoded
    assert len(files(pool)) == N
    assert decoded_bytes(plain) == N * (32 * 32 * 3 * 4 // 3 + 4 * 8)
    assert again.fingerprint() == plain.fingerprint()


def test_only_new_and_changed_files_are_decoded(pool, decoded):
    read(opened(pool))
    decoded.clear()
    picture(pool / "2.png", 99)
    (pool / "0.png").rename(pool / "7.png")  # another name, the same content
    picture(pool / "6.png", 6)
    with (pool / "pool.csv").open("w", newline="") as file:
        rows = [
            (7, "7.png", "a text of 0", 8),
            *((i, f"{i}.png", f"a text of {i}", i) for i in (1, 2, 3, 6)),
        ]
        csv.writer(file).writerows([("id", "image", "text", "age"), *rows])
    found = read(opened(pool))
    assert decoded == [2, 4]
    expected = read(load_manifest(pool / "pool.csv", image_side=32, tokens=8))
    assert_same(found, expected)
    assert len(files(pool)) == 5  # what belongs to no sample is removed


def test_another_size_of_images_is_decoded_again(pool, decoded):
    read(opened(pool))
    decoded.clear()
    data = load_manifest(pool / "pool.csv", image_side=36, tokens=8)
    keep_decoded(data, pool / "decoded", GIGABYTE)
    assert read(data)[0]["image"].shape[0] == 36
    assert decoded == list(range(N))
    assert len(files(pool)) == N


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "link", "swapped"])
def test_a_damaged_file_is_replaced(pool, decoded, how):
    expected = read(opened(pool))
    decoded.clear()
    file, other = files(pool)[:2]
    whole = file.read_bytes()
    if how == "link":
        file.rename(pool / "elsewhere")
        file.symlink_to(pool / "elsewhere")
    else:
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        content = {
            "cut": whole[:-9],
            "flipped": flipped,
            "empty": b"",
            "swapped": other.read_bytes(),
        }
        file.write_bytes(content[how])
    assert_same(read(opened(pool)), expected)
    assert len(decoded) == 1
    decoded.clear()
    assert_same(read(opened(pool)), expected)
    assert not decoded
    assert file.read_bytes() == whole
    assert not file.is_symlink()


def test_what_cannot_be_read_is_not_kept(pool, decoded):
    (pool / "3.png").write_bytes(b"no picture")
    found = read(opened(pool))
    assert found[3]["image"] is None
    assert found[3]["text"] is not None
    assert len(files(pool)) == N - 1
    (pool / "1.png").unlink()  # a missing file is a fact about the row
    decoded.clear()
    with pytest.warns(RlmbaWarning, match=r"1 of 6 files .*missing|1\.png"):
        data = opened(pool)
    assert read(data)[1]["image"] is None
    read(data)
    assert decoded.count(1) == 1
    assert decoded.count(3) == 2


@pytest.mark.parametrize("limit", ["most", "disk"])
def test_room_is_limited(pool, decoded, limit, monkeypatch):
    each = decoded_bytes(load_manifest(pool / "pool.csv", image_side=32, tokens=8)) // N
    read(opened(pool))
    most = GIGABYTE
    if limit == "most":
        most = 2 * each + 5
    else:
        there = sum(f.stat().st_size for f in files(pool))
        usage = namedtuple("usage", "total used free")(0, 0, 2 * (2 * each + 5 - there))
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    decoded.clear()
    read(opened(pool, most))
    assert decoded == [2, 3, 4, 5]
    assert len(files(pool)) == 2
    assert len({f.stem for f in files(pool)}) == 2


def test_nothing_is_kept_where_nothing_is_decoded(pool):
    digits = load_digits()
    keep_decoded(digits, pool / "decoded", GIGABYTE)
    with (pool / "texts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text"), *((i, f"a text of {i}") for i in range(N))])
    texts = load_manifest(pool / "texts.csv")
    keep_decoded(texts, pool / "decoded", GIGABYTE)
    assert decoded_bytes(digits) == decoded_bytes(texts) == 0
    assert not isinstance(texts.reader, KeptReader)
    assert not (pool / "decoded").exists()


def test_workers_share_what_is_kept_and_a_full_disk_ends_nothing(pool, monkeypatch):
    chunks = [np.arange(N)] * 3
    plain = load_manifest(pool / "pool.csv", image_side=32, tokens=8)
    expected = list(Loader(plain).batches(chunks, train=True, seed=4))

    def check(data):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Loader(data, workers=2) as loader:
                found = list(loader.batches(chunks, train=True, seed=4))
        for a, b in zip(found, expected, strict=True):
            for m, x in b.inputs.items():
                assert np.array_equal(a.inputs[m], x)

    check(opened(pool))
    assert len(files(pool)) == N
    shutil.rmtree(pool / "decoded")
    data = opened(pool)
    (pool / "decoded").rmdir()
    (pool / "decoded").write_text("in the way")
    check(data)
