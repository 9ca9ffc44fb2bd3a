"""A model's outputs for samples, as arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlmba.data.base import Batch, MultimodalDataset
from rlmba.models.classifier import ModelOutput, MultimodalClassifier
from rlmba.training.arrays import empty_arrays
from rlmba.training.loading import BatchRequest, Loader, worker_deaths
from rlmba.training.processes import ProcessGroup
from rlmba.types import MULTIMODAL, PoolOutputs

__all__ = ["fits_on_gpu", "forward_passes", "predict", "requests_of"]

_Key = tuple[str, str]
"""("features" or "logits", head)."""


def predict(
    model: MultimodalClassifier,
    loader: Loader,
    positions: NDArray[np.int64],
    *,
    batch_size: int,
    keep_on_device: bool = False,
    progress: Callable[[int, int], None] | None = None,
    group: ProcessGroup | None = None,
    memory: int | None = None,
    spill_folder: Path | None = None,
) -> PoolOutputs:
    """Run a model over samples in evaluation mode, without gradients.

    Parameters
    ----------
    model : MultimodalClassifier
        Its mode is restored afterwards.
    loader : Loader
        Reads the batches, without augmentation, to the model's device.
    positions : int64 array [N]
        Distinct dataset positions in the order of the outputs; may be empty.
    batch_size : int
        Samples per forward pass.
    keep_on_device : bool
        Return the outputs as torch tensors on the model's device.
    progress : callable or None
        Called after every pass with (completed samples, total samples) of this process.
    group : ProcessGroup or None
        Precision, and the processes that share the samples in blocks. All of them call this
        function with the same arguments. None uses this process alone in float32.
    memory : int or None
        Bytes of memory for the outputs; larger outputs are mapped from files. None allows half of
        the free memory.
    spill_folder : path or None
        Folder for these files; see :func:`~rlmba.training.arrays.empty_arrays`.

    Returns
    -------
    PoolOutputs
        float32 arrays, or tensors with ``keep_on_device``. With several processes, the main process returns
        all samples and each other process its own block. ``present`` tells which modalities were
        available when the samples were read.

    Raises
    ------
    StorageError
        If there is not enough disk space for the outputs.
    WorkerError
        If a process that loads data dies.
    PeerError
        If another process of the run ends.
    """
    group = group or ProcessGroup(model.device)
    n = len(positions)
    mine = group.block(n)
    shown = positions if group.is_main else positions[mine]
    here = keep_on_device and group.size == 1
    shapes = {key: (len(shown), width) for key, width in _widths(model).items()}
    out: dict[_Key, Tensor] = {}
    arrays: dict[_Key, Any] = {}
    if here:
        out = {key: torch.empty(shape, device=model.device) for key, shape in shapes.items()}
    else:
        arrays = empty_arrays(shapes, memory=memory, folder=spill_folder)
        out = {key: torch.from_numpy(a) for key, a in arrays.items()}
    present = _present(loader.dataset, shown)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), worker_deaths(loader):
            batches = loader.stream(requests_of(positions[mine], batch_size))
            done = 0
            for values, there in _read_outputs(forward_passes(model, batches, group), here):
                rows = slice(done, done + len(there))
                for key, value in values.items():
                    out[key][rows] = value
                present[rows] &= there.numpy()
                done = rows.stop
                if progress is not None:
                    progress(done, len(positions[mine]))
    finally:
        model.train(training)
    if not here:
        for rows_of in out.values():
            group.gather_rows(rows_of, n)
        group.gather_rows(torch.from_numpy(present.view(np.uint8)), n)
    outputs = _outputs(model, loader.dataset, shown, arrays or out, present)
    return outputs.on(model.device) if keep_on_device and group.is_main else outputs.host()


def requests_of(positions: NDArray[np.int64], batch_size: int) -> Iterator[BatchRequest]:
    """Yield requests for batches of ``batch_size`` samples, in order."""
    return (
        BatchRequest(positions[i : i + batch_size]) for i in range(0, len(positions), batch_size)
    )


def forward_passes(
    model: MultimodalClassifier, batches: Iterable[Batch], group: ProcessGroup
) -> Iterator[tuple[ModelOutput, Tensor | None]]:
    """Yield the model's output for each batch, at the group's precision, with its presence mask."""
    for batch in batches:
        with group.autocast():
            output = model(batch.inputs, batch.present)
        yield output, batch.present


def _read_outputs(
    passes: Iterator[tuple[ModelOutput, Tensor | None]], here: bool
) -> Iterator[tuple[dict[_Key, Tensor], Tensor]]:
    """Yield outputs, copied to the CPU unless ``here``; one batch late, so that a GPU never waits."""
    waiting: tuple[dict[_Key, Tensor], Tensor, Any] | None = None
    for output, present in passes:
        values = _tensors(output)
        there = present
        if there is None:
            there = torch.ones((len(output.fused_logits), len(output.logits)), dtype=torch.bool)
        event = None
        if output.fused_logits.is_cuda:
            if not here:
                values = {k: v.to("cpu", non_blocking=True) for k, v in values.items()}
            there = there.to("cpu", non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        if waiting is not None:
            yield _arrived(*waiting)
        waiting = (values, there, event)
    if waiting is not None:
        yield _arrived(*waiting)


def _arrived(
    values: dict[_Key, Tensor], there: Tensor, event: Any
) -> tuple[dict[_Key, Tensor], Tensor]:
    if event is not None:
        event.synchronize()
    return values, there


def _tensors(output: ModelOutput) -> dict[_Key, Tensor]:
    out = {("features", m): f.float() for m, f in output.features.items()}
    out |= {("logits", m): z.float() for m, z in output.logits.items()}
    out["features", MULTIMODAL] = output.fused_features.float()
    out["logits", MULTIMODAL] = output.fused_logits.float()
    return out


def _widths(model: MultimodalClassifier) -> dict[_Key, int]:
    widths = {("features", m): model.width for m in model.names}
    widths |= {("logits", m): model.n_classes for m in model.names}
    widths["features", MULTIMODAL] = model.fused_width
    widths["logits", MULTIMODAL] = model.n_classes
    return widths


def _present(dataset: MultimodalDataset, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    if dataset.present is None:
        return np.ones((len(positions), len(dataset.modalities)), np.bool_)
    return dataset.present[positions]


def _outputs(
    model: MultimodalClassifier,
    dataset: MultimodalDataset,
    positions: NDArray[np.int64],
    values: Mapping[_Key, Any],
    present: NDArray[np.bool_],
) -> PoolOutputs:
    return PoolOutputs(
        ids=dataset.ids[positions],
        features={m: values["features", m] for m in model.names},
        logits={m: values["logits", m] for m in model.names},
        fused_features=values["features", MULTIMODAL],
        fused_logits=values["logits", MULTIMODAL],
        present=None if dataset.present is None and present.all() else present,
        evidence=model.evidence,
    )


def fits_on_gpu(model: MultimodalClassifier, rows: int) -> bool:
    """Whether the outputs of the samples take at most half of the free memory of the model's GPU.

    False on a CPU.
    """
    if model.device.type != "cuda":
        return False
    values = rows * sum(_widths(model).values())
    return 4 * values <= torch.cuda.mem_get_info(model.device)[0] // 2
