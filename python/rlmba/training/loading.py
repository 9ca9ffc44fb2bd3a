"""Loading of batches from dataset positions to the model's device."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import traceback
from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from rlmba.data.base import Batch, MultimodalDataset
from rlmba.errors import RlmbaError, UsageError, WorkerError
from rlmba.workers import portable

__all__ = ["BatchRequest", "Loader", "worker_deaths"]

_SHARED_MEMORY = "/dev/shm"
"""Where batches of worker processes are, on Linux. Containers often have only 64 MiB there."""


class BatchRequest(NamedTuple):
    """One batch to read: ``rows`` of ``positions``, or all positions if None.

    If ``train``, ``seed`` and ``number`` determine the augmentation, drawn for all ``positions``.
    """

    positions: NDArray[np.int64]
    rows: slice | None = None
    train: bool = False
    seed: int = 0
    number: int = 0


class Loader:
    """Reads batches of a data set and finishes them on a device.

    If the device is the CPU, worker processes also augment and transform the batches, so that this process
    only trains. A batch in its final form takes about four times the memory; where shared memory is short,
    it is transformed in this process instead, with the same result.

    Parameters
    ----------
    dataset : MultimodalDataset
    device : torch.device
        Device on which the batches are finished.
    workers : int or None
        Number of worker processes, each with one torch thread; 0 reads in this process. None uses 0
        for a data set in memory, and otherwise one worker per core, divided among the processes
        launched together. Workers start with the first batch and run until :meth:`close`. Batches
        do not depend on their number.
    prefetch : int
        Number of batches that each worker reads ahead.
    """

    def __init__(
        self,
        dataset: MultimodalDataset,
        device: torch.device | str = "cpu",
        *,
        workers: int | None = 0,
        prefetch: int = 2,
    ) -> None:
        self.dataset = dataset
        self.device = torch.device(device)
        self.workers = _workers_for(dataset) if workers is None else workers
        self._prefetch = prefetch
        self._requests = _Requests()
        self._source: DataLoader[Any] | None = None
        self._streams = 0

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the worker processes. The next batch starts new ones."""
        self._source = None

    def batches(
        self, chunks: Sequence[NDArray[np.int64]], *, train: bool = False, seed: int = 0
    ) -> Iterator[Batch]:
        """Yield the samples of each chunk as a batch, in order.

        Parameters
        ----------
        chunks : sequence of int64 array
            Dataset positions of each batch.
        train : bool
            Apply the data set's augmentation.
        seed : int
            Determines the augmentation, together with the chunk's number. It does not matter how or
            where a batch is read.

        Yields
        ------
        Batch
            Finished, on the device.
        """
        return self.stream(
            BatchRequest(positions, None, train, seed, number)
            for number, positions in enumerate(chunks)
        )

    def stream(self, requests: Iterable[BatchRequest]) -> Iterator[Batch]:
        """Yield the batch of each request, in order.

        Workers take requests from the iterable ahead of the batches. Only one stream may be active: the
        next one begins when this one has ended or has been abandoned.

        Yields
        ------
        Batch
            Finished, on the device.

        Raises
        ------
        WorkerError
            If a worker process dies; the rest of the stream is lost.
        UsageError
            If a newer stream has started.
        """
        if not self.workers:
            for request in requests:
                yield self.dataset.finish(_read(self.dataset, request), self.device)
            return
        self._streams += 1
        number = self._streams
        with worker_deaths(self):
            self._requests.requests = requests
            for loaded in self._loaded():
                if isinstance(loaded, _Failure):
                    loaded.throw()
                yield self.dataset.finish(loaded, self.device)
                if number != self._streams:
                    raise UsageError(
                        "Loader: expected one stream at a time, but a newer one has started"
                    )

    def _loaded(self) -> Iterator[Any]:
        if self._source is None:
            self._source = DataLoader(
                _Reader(self.dataset, self.workers if self.device.type == "cpu" else 0),
                sampler=self._requests,
                batch_size=None,
                num_workers=self.workers,
                prefetch_factor=self._prefetch,
                persistent_workers=True,
                pin_memory=self.device.type == "cuda",
                collate_fn=_as_is,
                worker_init_fn=_begin_worker,
            )
        return iter(self._source)


@contextlib.contextmanager
def worker_deaths(loader: Loader) -> Iterator[None]:
    """Raise :class:`WorkerError` if one of a loader's processes dies in the block.

    torch reports the death from a signal handler, anywhere in the code of this process.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, RlmbaError) or not str(error).startswith("DataLoader worker"):
            raise
        loader.close()
        shared = "shared memory" in str(error) or "Bus error" in str(error)
        why = (
            "shared memory is used up; make /dev/shm larger (docker: --shm-size), or"
            if shared
            else "most often memory is used up; free some, or"
        )
        raise WorkerError(
            f"one of {loader.workers} processes that load data has died "
            f"({str(error).splitlines()[0].rstrip('. ')}): {why} lower training.workers "
            f"(--set training.workers={loader.workers // 2}) or training.prefetch"
        ) from error


def _workers_for(dataset: MultimodalDataset) -> int:
    if dataset.in_memory:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _read(dataset: MultimodalDataset, request: BatchRequest) -> Batch:
    generator = None
    if request.train:
        entropy = np.random.SeedSequence([request.seed, request.number])
        mixed = entropy.generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(mixed))
    if request.rows is None:
        return dataset.load(request.positions, train=request.train, generator=generator)
    return dataset.load(
        request.positions, train=request.train, generator=generator, rows=request.rows
    )


class _Requests(Sampler[BatchRequest]):
    """Passes the requests of the current stream to the worker processes."""

    def __init__(self) -> None:
        self.requests: Iterable[BatchRequest] = ()

    def __iter__(self) -> Iterator[BatchRequest]:
        return iter(self.requests)


class _Reader(Dataset[Any]):
    """Runs in the worker processes: turns a request into a batch or a failure.

    ``transformers`` is the number of processes that transform their batches at a time; 0: none does.
    """

    def __init__(self, dataset: MultimodalDataset, transformers: int) -> None:
        self._dataset = dataset
        self._transformers = transformers
        self._bytes = sum(
            prod(m.shape) * torch.empty(0, dtype=getattr(torch, m.dtype)).element_size()
            for m in dataset.modalities
        )

    def __getitem__(self, request: Any) -> Any:
        try:
            batch = _read(self._dataset, request)
            if self._transformers and self._has_room(len(next(iter(batch.inputs.values())))):
                return self._dataset.transform(batch, torch.device("cpu"))
            return batch
        except Exception as error:
            return _Failure(portable(error), traceback.format_exc())

    def _has_room(self, samples: int) -> bool:
        """Whether shared memory has room for two transformed batches of every process."""
        try:
            free = shutil.disk_usage(_SHARED_MEMORY).free
        except OSError:  # a system without this folder
            return True
        return free > 2 * self._transformers * samples * self._bytes


class _Failure:
    """An exception sent from a worker process."""

    def __init__(self, error: Exception, trace: str) -> None:
        self._error, self._trace = error, trace

    def throw(self) -> None:
        raise self._error from RuntimeError(f"in a process that loads data:\n{self._trace}")


def _as_is(loaded: Any) -> Any:
    return loaded


def _begin_worker(_: int) -> None:
    # Ctrl-C reaches every process of a terminal; only the main process reports it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
