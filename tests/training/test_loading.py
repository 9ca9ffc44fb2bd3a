from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from rlmba.data import Batch, MultimodalDataset, load_digits
from rlmba.errors import NonFiniteError, UsageError, WorkerError
from rlmba.training import Loader
from rlmba.training.loading import BatchRequest


class Reading(MultimodalDataset):
    """Digits as if on disk; position 7 cannot be read, and 8 kills the process that reads it."""

    def __init__(self, how="fine"):
        inner = load_digits()
        for name in ("name", "classes", "modalities", "ids", "labels", "present"):
            setattr(self, name, getattr(inner, name))
        self.inner, self.how = inner, how

    def fingerprint(self):
        return self.inner.fingerprint()

    def load(self, positions, *, train, generator, rows=None):
        if self.how == "broken" and 7 in positions:
            raise NonFiniteError("sample 7 is not finite; drop it", 7)
        if self.how == "odd" and 7 in positions:

            class Local(Exception):
                pass

            raise Local("only here")
        if self.how == "deadly" and 8 in positions:
            os.kill(os.getpid(), signal.SIGKILL)
        batch = self.inner.load(positions, train=train, generator=generator, rows=rows)
        threads = torch.full((len(batch.inputs["image"]),), torch.get_num_threads())
        return Batch({**batch.inputs, "threads": threads}, batch.present)

    def finish(self, batch, device):
        finished = super().finish(batch, device)
        process = torch.full((1,), os.getpid())
        return Batch({**finished.inputs, "process": process}, finished.present)


def requests(n=6, train=True):
    rng = np.random.default_rng(3)
    chunks = [rng.integers(9, 99, size=5) for _ in range(n)]
    return [
        BatchRequest(c, slice(1, 4) if i % 2 else None, train, 12, i) for i, c in enumerate(chunks)
    ]


def test_batches_do_not_depend_on_who_reads_them():
    expected = [b.inputs for b in Loader(Reading()).stream(requests())]
    for workers, prefetch in ((1, 1), (2, 2)):
        with Loader(Reading(), workers=workers, prefetch=prefetch) as loader:
            for _ in range(2):
                found = [b.inputs for b in loader.stream(iter(requests()))]
                assert len(found) == len(expected)
                for a, b in zip(found, expected, strict=True):
                    assert torch.equal(a["image"], b["image"])
                    assert torch.equal(a["audio"], b["audio"])
                    assert set(a["threads"].tolist()) == {1}
                    assert int(a["process"]) == os.getpid()  # finished here


def test_plain_batches_are_requests():
    data = load_digits()
    chunks = [np.array([1, 2]), np.array([3])]
    for train in (False, True):
        found = Loader(data).batches(chunks, train=train, seed=9)
        wanted = Loader(data).stream(
            [BatchRequest(c, None, train, 9, i) for i, c in enumerate(chunks)]
        )
        for a, b in zip(found, wanted, strict=True):
            assert torch.equal(a.inputs["audio"], b.inputs["audio"])


def test_workers_stay_and_a_stream_may_be_given_up():
    others = children()  # of tests before, in this process
    with Loader(Reading(), workers=2) as loader:
        stream = loader.stream(requests())
        next(stream)
        first = children() - others
        newer = loader.stream(requests())
        next(newer)
        assert children() - others == first
        with pytest.raises(UsageError, match="one stream at a time"):
            next(stream)
        rest = list(newer)
        assert len(rest) == 5
        assert len(first) >= 2
    deadline = time.monotonic() + 20
    while children() & first and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not children() & first


def children():
    mine = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[1] == str(os.getpid()) and fields[0] != "Z":
            mine.add(int(entry.name))
    return mine


def test_how_many_workers(monkeypatch):
    assert Loader(load_digits(), workers=None).workers == 0
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    assert Loader(Reading(), workers=None).workers == 6
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert Loader(Reading(), workers=None).workers == 1


def test_errors_of_workers_are_the_data_sets_own():
    bad = [BatchRequest(np.array([7]))]
    with Loader(Reading("broken"), workers=1) as loader:
        with pytest.raises(NonFiniteError, match="sample 7 is not finite; drop it") as caught:
            list(loader.stream(bad))
        assert caught.value.row == 7
        assert len(list(loader.stream(requests(2)))) == 2
    with (
        Loader(Reading("odd"), workers=1) as loader,
        pytest.raises(RuntimeError, match="Local: only here"),
    ):
        list(loader.stream(bad))


def test_a_worker_that_dies_is_an_error_that_says_so():
    with Loader(Reading("deadly"), workers=2) as loader:
        with pytest.raises(WorkerError, match=r"has died .*lower training\.workers .*workers=1"):
            list(loader.stream([*requests(3), BatchRequest(np.array([8])), *requests(3)]))
        assert len(list(loader.stream(requests(4)))) == 4  # by new ones
