"""The shards of a network's outputs, each computed and written by one process."""

from __future__ import annotations

import functools
import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import rlmba
from rlmba.data import MultimodalDataset
from rlmba.data.shard_files import ShardFile, file_checksum, write_shard
from rlmba.errors import DataError, NonFiniteError, RlmbaWarning, UsageError
from rlmba.learner.trained import Trained
from rlmba.project.network_outputs import NetworkOutputs, allowed_features_folder, chunk_of
from rlmba.project.predict import read_new
from rlmba.types import PoolOutputs

__all__ = ["Job", "Opened", "ShardTask", "Source", "Written"]

_NOTHING_READ = "no modality could be read"


@dataclass(frozen=True)
class Source:
    """A file of samples: its samples, and checksums of their ids and, of a file, its content."""

    path: Path
    samples: int
    ids: str
    sha256: str | None

    @property
    def identity(self) -> tuple[Any, ...]:
        """What does not change when the file is moved."""
        return self.samples, self.ids, self.sha256


@dataclass(frozen=True)
class Job:
    """What every process has to know."""

    folder: Path
    out: Path
    arrays: bool
    network: str
    version: str
    device: str | None
    batch_size: int | None


@dataclass(frozen=True)
class Written:
    """A shard that is on disk, and the samples that it lacks, with the reason, by id."""

    file: ShardFile
    left_out: dict[str, str]


class Opened:
    """The network, and one of the files of samples at a time."""

    def __init__(
        self,
        folder: Path,
        *,
        arrays: bool,
        device: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.trained = Trained.load(folder, without_frozen=True)
        self.network = _checksum_of(self.trained)
        self.step = chunk_of(batch_size or self.trained.config.training.predict_batch_size)
        self._folder, self._arrays = folder, arrays
        self._device, self._batch_size = device, batch_size
        self._dataset: MultimodalDataset | None = None
        self._outputs: NetworkOutputs | None = None
        self._source = Source(folder, 0, "", None)

    @property
    def row_bytes(self) -> int:
        """Approximate number of bytes of a row of a shard."""
        model = self.trained.model
        modal = len(model.names) * (model.width + model.n_classes)
        return 64 + 4 * (modal + model.fused_width + model.n_classes)

    def samples(self, path: Path) -> tuple[MultimodalDataset, Source]:
        """The samples of a file."""
        if self._dataset is None or path != self._source.path:
            self.close()
            given = {"data" if self._arrays else "manifest": path}
            self._dataset = read_new(self.trained, **given)
            ids = "\0".join(self._dataset.ids.tolist()).encode(errors="surrogatepass")
            self._source = Source(
                path,
                len(self._dataset),
                hashlib.sha256(ids).hexdigest(),
                file_checksum(path) if path.is_file() else None,
            )
        return self._dataset, self._source

    def outputs(self, path: Path) -> NetworkOutputs:
        """The outputs of the samples of a file."""
        dataset, _ = self.samples(path)
        if self._outputs is None:
            self._outputs = NetworkOutputs(
                self.trained,
                dataset,
                device=self._device,
                batch_size=self._batch_size,
                features_folder=allowed_features_folder(self.trained.config, self._folder),
            )
        return self._outputs

    def close(self) -> None:
        """Forget the samples."""
        if self._outputs is not None:
            self._outputs.close()
        self._dataset = self._outputs = None


@dataclass(frozen=True)
class ShardTask:
    """See :class:`rlmba.workers.Task`: the outputs of samples [begin, end) of a file."""

    job: Job
    number: int
    source: Source
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin

    @property
    def name(self) -> str:
        """The shard's file."""
        return f"part-{self.number:05d}.parquet"

    def run(self, tick: Callable[[], None]) -> Written:
        """Write the shard in a process of its own, which keeps the network for the next one."""
        opened = _opened(self.job)
        with warnings.catch_warnings():  # the process that planned the shards has said them
            warnings.simplefilter("ignore", RlmbaWarning)
            opened.samples(self.source.path)
        return self.write(opened, tick)

    def write(self, opened: Opened, tick: Callable[[], None]) -> Written:
        """Write the shard."""
        _, source = opened.samples(self.source.path)
        if source.identity != self.source.identity:
            raise DataError(
                f"{source.path}: expected the {self.source.samples:,} samples for which the shards were "
                f"planned, found others ({source.samples:,}); do not change the file until all shards are "
                "written, and let all processes see the same one"
            )
        network, left_out = opened.outputs(source.path), dict[str, str]()

        def blocks() -> Iterator[dict[str, NDArray[Any]]]:
            for start in range(self.begin, self.end, network.step):
                positions = np.arange(start, min(start + network.step, self.end), dtype=np.int64)
                outputs = network.of(positions)
                readable = outputs.readable
                if readable is not None:
                    lost = np.setdiff1d(np.arange(len(outputs)), readable)
                    left_out.update(dict.fromkeys(outputs.ids[lost].tolist(), _NOTHING_READ))
                    outputs = outputs.take(readable)
                yield _columns(outputs)
                tick()

        size = len(self) * opened.row_bytes
        return Written(write_shard(self.job.out / self.name, blocks(), size=size), left_out)


@functools.lru_cache(maxsize=1)
def _opened(job: Job) -> Opened:
    """Load the network in this process; it must be the one for which the shards were planned."""
    if job.version != rlmba.__version__:
        raise UsageError(
            f"expected version {job.version} of rlmba in all processes, got {rlmba.__version__}; install the "
            "same version on all machines"
        )
    opened = Opened(job.folder, arrays=job.arrays, device=job.device, batch_size=job.batch_size)
    if opened.network != job.network:
        raise DataError(
            f"{job.folder}: the network is another one than that for which the shards were planned; if the "
            "run goes on meanwhile, write the network with `rlmba export`, and give that folder"
        )
    return opened


def _columns(outputs: PoolOutputs) -> dict[str, NDArray[Any]]:
    """A block of a shard. Rows of absent modalities are zeros."""
    names = outputs.modalities if len(outputs.modalities) > 1 else ()
    there = outputs.present
    if there is None:
        there = np.ones((len(outputs), len(outputs.modalities)), np.bool_)
    columns: dict[str, NDArray[Any]] = {"ids": outputs.ids}
    for kind, fused, own in (
        ("features", outputs.fused_features, outputs.features),
        ("logits", outputs.fused_logits, outputs.logits),
    ):
        columns[kind] = fused
        for column, name in enumerate(names):
            columns[f"{kind}/{name}"] = np.where(there[:, column, None], own[name], 0)
    for name, a in columns.items():
        if name != "ids" and not (finite := np.isfinite(a).all(axis=1)).all():
            row = int(np.argmin(finite))
            sample = str(outputs.ids[row])
            raise NonFiniteError(
                f"expected finite outputs, got NaN or infinity in {name} of the sample {sample!r}; repair "
                "the sample, or train the network again with a smaller training.learning_rate",
                row,
            )
    return columns | ({"present": there} if names else {})


def _checksum_of(trained: Trained) -> str:
    """SHA-256 of the network: its description and its weights."""
    digest = hashlib.sha256(json.dumps(trained.document, sort_keys=True, default=str).encode())
    frozen = {} if trained.frozen is None else trained.frozen.standardization
    for name, pair in sorted(frozen.items()):
        digest.update(name.encode())
        for a in pair:
            digest.update(np.ascontiguousarray(a).data)
    for name, tensor in sorted(trained.model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
