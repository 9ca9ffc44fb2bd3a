"""A trained network as one ONNX graph that includes its temperatures and predictor."""

from __future__ import annotations

import contextlib
import itertools
import logging
import secrets
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from rlmba.errors import RlmbaError, StorageError, UsageError
from rlmba.learner.trained import Trained
from rlmba.progress import announce

__all__ = ["OPSET", "PRESENT", "ExportError", "NetworkGraph", "example_inputs", "write_onnx"]

OPSET = 18
PRESENT = "present"
_TOLERANCE = 1e-3
_LIMIT = 1_900_000_000
"""Bytes of weights from which they are stored in a separate file: an ONNX file has at most 2 GiB."""


class ExportError(RlmbaError):
    """A network, or a part of it, cannot be exported."""


class NetworkGraph(nn.Module):
    """The computation of the graph: all heads, and class probabilities by the run's predictor.

    Parameters
    ----------
    trained : Trained
    """

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.model = trained.model
        self.pooled = trained.predictor == "pooled"
        self.temperatures = trained.head_temperatures
        self.fused_temperature = trained.fused_temperature

    @property
    def outputs(self) -> list[str]:
        """Names of the tensors that :meth:`forward` returns."""
        modal = [f"logits_{name}" for name in self.model.names]
        return ["probabilities", "logits", *modal, "features"]

    def forward(self, inputs: list[Tensor], present: Tensor) -> tuple[Tensor, ...]:
        """Run the network.

        Parameters
        ----------
        inputs : list of tensor [n, *shape]
            In the order of the modalities.
        present : bool tensor [n, M]

        Returns
        -------
        tuple of tensor
            Probabilities [n, C], fused logits [n, C], each modality's logits [n, C], fused features
            [n, D].
        """
        out = self.model(dict(zip(self.model.names, inputs, strict=True)), present)
        total = torch.log_softmax(out.fused_logits / self.fused_temperature, dim=1)
        if self.pooled:
            for column, (name, logits) in enumerate(out.logits.items()):
                scaled = logits / self.temperatures[name]
                if out.dirichlet is not None:
                    scaled = out.dirichlet[name].log()
                each = torch.log_softmax(scaled, dim=1)
                total = total + each * present[:, column, None].to(each.dtype)
        probabilities = torch.softmax(total, dim=1)
        return (probabilities, out.fused_logits, *out.logits.values(), out.fused_features)


def example_inputs(trained: Trained, n: int, generator: torch.Generator) -> list[Tensor]:
    """Random inputs of n samples for every modality: normal numbers or token ids, never padding."""
    inputs = []
    for m in trained.modalities:
        if m.kind == "tokens":
            low = 1 if m.padding == 0 and (m.vocabulary or 2) > 1 else 0
            x = torch.randint(low, m.vocabulary or 2, (n, *m.shape), generator=generator)
        else:
            x = torch.randn((n, *m.shape), generator=generator)
        inputs.append(x)
    return inputs


def write_onnx(trained: Trained, path: Path) -> float | None:
    """Write the graph of :class:`NetworkGraph` as ONNX, for batches of any size.

    The inputs are the modalities by name, [n, *shape], and ``present``, bool [n, M]. The outputs are
    those of :attr:`NetworkGraph.outputs`. The file is replaced atomically. Weights of 1.9 GB or more
    are stored in ``<name>.data`` in the same folder.

    Returns
    -------
    float or None
        The largest difference between outputs of ONNX Runtime and of torch, on random inputs of 1 and
        of 5 samples, with and without absent modalities; None if ONNX Runtime is not installed.

    Raises
    ------
    UsageError
        If onnx or onnxscript is not installed, or a modality has the name of another part of the graph.
    ExportError
        If the network cannot be exported; the message names the encoder that caused it.
    StorageError
        If the file cannot be written.
    """
    _require_onnx()
    graph = NetworkGraph(trained).eval()
    names = [m.name for m in trained.modalities]
    taken = sorted({*graph.outputs, PRESENT} & set(names))
    if taken:
        raise UsageError(
            f"ONNX: {taken[0]!r} names a modality and another part of the graph; rename the modality"
        )
    generator = torch.Generator().manual_seed(0)
    inputs = example_inputs(trained, 3, generator)
    present = torch.ones((3, len(names)), dtype=torch.bool)
    batch = torch.export.Dim("batch", min=1)
    announce("converting to ONNX")
    try:
        with _quiet(), torch.no_grad():
            program = _exported(
                graph,
                (inputs, present),
                ([{0: batch}] * len(inputs), {0: batch}),
                input_names=[*names, PRESENT],
                output_names=graph.outputs,
            )
    except Exception as error:
        raise _explained(trained, inputs, error) from error
    size = sum(t.numel() * t.element_size() for t in graph.state_dict().values())
    _save(program, path, apart=size >= _LIMIT)
    announce("comparing ONNX Runtime with torch")
    return _difference(graph, trained, path)


def _exported(
    module: nn.Module, arguments: tuple[Any, ...], shapes: Any, **names: Any
) -> torch.onnx.ONNXProgram:
    program = torch.onnx.export(
        module,
        arguments,
        dynamic_shapes=shapes,
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
        **names,
    )
    found = cast("torch.onnx.ONNXProgram", program)
    sizes = [i.shape[0] for i in found.model.graph.inputs if i.shape is not None]
    fixed = [size for size in sizes if isinstance(size, int)]
    if fixed:
        # The exporter silently treats len(x), unlike x.shape[0], as a constant.
        raise ExportError(
            f"it only takes batches of {fixed[0]}; use x.shape[0] instead of len(x) in its code"
        )
    return found


def _difference(graph: NetworkGraph, trained: Trained, path: Path) -> float | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [m.name for m in trained.modalities]
    worst = 0.0
    for n, whole in itertools.product((1, 5), (True, False)):
        generator = torch.Generator().manual_seed(n)
        inputs = example_inputs(trained, n, generator)
        present = torch.rand((n, len(names)), generator=generator) < (2.0 if whole else 0.5)
        with torch.no_grad():
            wanted = graph(inputs, present)
        feeds = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        got = session.run(None, {**feeds, PRESENT: present.numpy()})
        for a, b in zip(wanted, got, strict=True):
            off = float(np.abs(a.numpy() - b).max())
            if not off <= _TOLERANCE * max(1.0, float(a.abs().max())):  # NaN is not either
                path.unlink()
                raise ExportError(
                    f"ONNX: expected the outputs of torch within {_TOLERANCE:g} of the largest number, but "
                    f"an output of ONNX Runtime is off by {off:.2g}; use the network with rlmba instead"
                )
            worst = max(worst, off)
    return worst


def _save(program: torch.onnx.ONNXProgram, path: Path, *, apart: bool) -> None:
    """Save in a temporary folder first, since the graph refers to the file of its weights by name."""
    try:
        with tempfile.TemporaryDirectory(
            prefix=f".{path.name}.{secrets.token_hex(4)}.", dir=path.parent
        ) as folder:
            written = Path(folder) / path.name
            program.save(str(written), external_data=apart)
            for file in sorted(Path(folder).iterdir(), reverse=True):  # weights before the graph
                file.replace(path.with_name(file.name))
    except OSError as error:
        raise StorageError(
            f"could not write {path} ({error.strerror or error}); free some space or choose another folder"
        ) from error


def _explained(trained: Trained, inputs: list[Tensor], error: Exception) -> ExportError:
    """The error with its cause: the first encoder that cannot be exported alone."""
    parts = zip(trained.modalities, trained.model.encoders, inputs, strict=True)
    for modality, encoder, x in parts:
        own = _failure(encoder, x)
        if own is not None:
            choice = trained.config.model.encoders.get(modality.name)
            name = choice.name if choice is not None else "auto"
            kind = type(getattr(encoder, "encoder", encoder)).__name__
            return ExportError(
                f"ONNX: the encoder of {modality.name!r} ({name}, {kind}) cannot be exported: "
                f"{_cause(own)}; choose another encoder, or use the network with rlmba instead"
            )
    return ExportError(
        f"ONNX: the network cannot be exported: {_cause(error)}; use it with rlmba instead"
    )


def _failure(encoder: nn.Module, x: Tensor) -> Exception | None:
    try:
        with _quiet(), torch.no_grad():
            _exported(encoder, (x,), ({0: torch.export.Dim("batch", min=1)},))
    except Exception as error:
        return error
    return None


def _cause(error: BaseException) -> str:
    """The first line of the original error."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f'ONNX: {error.name} is not installed; run pip install "rlmba[onnx]", or omit --onnx'
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's logs and warnings; its errors are reported as :class:`ExportError`."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
