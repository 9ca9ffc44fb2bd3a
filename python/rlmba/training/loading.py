"""From positions to batches on the model's device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray

from rlmba.data.base import Batch, MultimodalDataset

__all__ = ["Loader"]


class Loader:
    """Reads batches of a data set and finishes them on a device, one after another.

    Parameters
    ----------
    dataset : MultimodalDataset
    device : torch.device
        Where batches are finished.
    """

    def __init__(self, dataset: MultimodalDataset, device: torch.device | str = "cpu") -> None:
        self.dataset = dataset
        self.device = torch.device(device)

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what reading needed."""

    def batches(
        self, chunks: Sequence[NDArray[np.int64]], *, train: bool = False, seed: int = 0
    ) -> Iterator[Batch]:
        """The samples of each chunk as a batch, in order.

        Parameters
        ----------
        chunks : sequence of int64 array
            Dataset positions of each batch.
        train : bool
            Apply the data set's augmentation.
        seed : int
            With a chunk's number, decides its augmentation: how and where a batch is read changes
            nothing.

        Yields
        ------
        Batch
            Finished, on the device.
        """
        for number, positions in enumerate(chunks):
            yield self.dataset.finish(self._read(positions, train, seed, number), self.device)

    def _read(self, positions: NDArray[np.int64], train: bool, seed: int, number: int) -> Batch:
        generator = None
        if train:
            mixed = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0]
            generator = torch.Generator().manual_seed(int(mixed))
        return self.dataset.load(positions, train=train, generator=generator)
