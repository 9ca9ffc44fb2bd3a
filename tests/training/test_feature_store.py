"""The store of features: what is written, found again, added to and damaged."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import time

import numpy as np
import pytest

from rlmba.errors import RlmbaWarning, StorageError
from rlmba.training import FeatureStore

WIDTH = 4


def keys(n, start=0):
    return [f"key {i}".encode() for i in range(start, start + n)]


def rows(n, start=0):
    return np.arange(start, start + n, dtype=np.float32)[:, None] + np.zeros((1, WIDTH), np.float32)


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "features", "abc", WIDTH)


def test_nothing_is_known_of_a_store_that_was_never_written(store):
    features, known, readable = store.read(keys(3))
    assert not known.any()
    assert not readable.any()
    assert features.shape == (3, WIDTH)
    assert not store.path.exists()


def test_rows_come_back_in_any_order_and_more_can_be_added(store):
    store.add(keys(1000), rows(1000), np.ones(1000, np.bool_))
    store.add(keys(5, start=1000), rows(5, start=1000), np.array([1, 1, 0, 1, 1], np.bool_))
    wanted = [*keys(2, start=999), b"unknown", *keys(1, start=1002), *keys(1, start=999)]
    features, known, readable = store.read(wanted)
    assert known.tolist() == [True, True, False, True, True]
    assert readable.tolist() == [True, True, False, False, True]
    assert features[:, 0].tolist() == [999, 1000, 0, 0, 999]


def test_a_damaged_row_is_computed_again(store):
    store.add(keys(3), rows(3), np.ones(3, np.bool_))
    with sqlite3.connect(store.path) as database:
        database.execute("UPDATE entries SET features = zeroblob(16) WHERE key = ?", (keys(3)[1],))
    database.close()
    with pytest.warns(RlmbaWarning, match="1 rows of features are damaged"):
        _, known, _ = store.read(keys(3))
    assert known.tolist() == [True, False, True]


@pytest.mark.parametrize("cut", [0.5, None])
def test_a_file_that_is_cut_or_is_no_database_is_set_aside(store, cut):
    store.add(keys(500), rows(500), np.ones(500, np.bool_))
    data = store.path.read_bytes()
    store.path.write_bytes(
        b"nothing of ours" * 100 if cut is None else data[: int(cut * len(data))]
    )
    with pytest.warns(RlmbaWarning, match="its content is computed again"):
        _, known, _ = store.read(keys(500))
    assert not known.any()
    store.add(keys(2), rows(2), np.ones(2, np.bool_))
    assert store.read(keys(2))[1].all()


def test_views_and_triggers_of_a_strangers_file_do_not_run(store):
    store.path.parent.mkdir()
    with sqlite3.connect(store.path) as database:
        database.execute("CREATE VIEW entries AS SELECT 1 AS key, 2 AS features, 3 AS checksum")
    database.close()
    with pytest.warns(RlmbaWarning, match="views or triggers"):
        assert not store.read(keys(1))[1].any()


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_links_out_of_the_folder_are_not_written(tmp_path, store, link):
    other = FeatureStore(tmp_path / "other", "abc", WIDTH)
    other.add(keys(1), rows(1), np.ones(1, np.bool_))
    store.path.parent.mkdir()
    if link == "symbolic":
        store.path.symlink_to(other.path)
    else:
        store.path.hardlink_to(other.path)
    before = other.path.read_bytes()
    with pytest.raises(StorageError, match="link"):
        store.add(keys(3), rows(3), np.ones(3, np.bool_))
    assert other.path.read_bytes() == before


def test_a_store_that_may_not_be_written_is_read(store):
    store.add(keys(3), rows(3), np.ones(3, np.bool_))
    before = store.path.stat().st_mtime_ns
    store.path.chmod(0o444)
    store.path.parent.chmod(0o555)
    try:
        assert store.read(keys(3))[1].all()
    finally:
        store.path.parent.chmod(0o755)
    assert store.path.stat().st_mtime_ns == before


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    store = FeatureStore(tmp_path / "file" / "features", "abc", WIDTH)
    with pytest.raises(StorageError):
        store.add(keys(1), rows(1), np.ones(1, np.bool_))


def _die_while_writing(path):
    database = sqlite3.connect(path)
    database.execute("PRAGMA cache_size=1")  # pages reach the file before the transaction ends
    database.execute("UPDATE entries SET features = randomblob(16)")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_transaction_that_a_killed_process_left_is_undone(store):
    store.add(keys(3000), rows(3000), np.ones(3000, np.bool_))
    writer = multiprocessing.get_context("fork").Process(
        target=_die_while_writing, args=(store.path,)
    )
    writer.start()
    writer.join()
    assert store.path.with_name(store.path.name + "-journal").stat().st_size > 0
    features, known, _ = store.read(keys(3000))
    assert known.all()
    np.testing.assert_array_equal(features, rows(3000))


def _write_for_ever(folder, start):
    store = FeatureStore(folder, "abc", WIDTH)
    for number in range(100_000):
        first = start + 10 * number
        store.add(keys(10, start=first), rows(10, start=first), np.ones(10, np.bool_))


def test_killed_writers_leave_whole_rows(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_for_ever, args=(tmp_path, s)) for s in (0, 10**7)]
    for writer in writers:
        writer.start()
    store = FeatureStore(tmp_path, "abc", WIDTH)
    for start in (0, 10**7):
        deadline = time.monotonic() + 60
        while not store.read(keys(30, start=start))[1].all():
            assert time.monotonic() < deadline
    for writer in writers:
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    for start in (0, 10**7):
        features, known, _ = store.read(keys(5000, start=start))
        n = int(known.sum())
        assert n % 10 == 0
        np.testing.assert_array_equal(features[:n], rows(n, start=start))
