"""Encoders exported by other tools: an ONNX file, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlmba.data.base import KINDS, Modality
from rlmba.errors import DataError, UsageError
from rlmba.models.blueprint import Blueprint, blueprint_in_use
from rlmba.models.registry import Encoder, flag, register_family

__all__ = ["OnnxFile"]

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}
_TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")

# How an ONNX file encodes that a tensor is in another file: the key "location", then a value.
_EXTERNAL = b"\x0a\x08location\x12"


@register_family("onnx", kinds=KINDS)
class OnnxFile(Encoder):
    """A frozen network in an ONNX file, run by onnxruntime on the CPU.

    Parameters
    ----------
    modality : Modality
        Passed on as it is, in the type that the network takes. The padding of tokens becomes 0.
    path : str
        The file. It contains all tensors; they are kept in the encoder, so that a checkpoint can be
        loaded without the file.
    output : str or None
        Name of the output with the features, required if there are several. Its shape is [n, width],
        or [n, T, width] for tokens, which is averaged over the tokens that are not padding.
    frozen : bool
        Must be true.

    Notes
    -----
    The network has one input, or for tokens ``input_ids`` with ``attention_mask`` and
    ``token_type_ids`` if it takes them. If its number of samples is fixed, batches are divided into
    chunks of that number, and the last chunk is padded with zeros.
    """

    content: Tensor

    def __init__(
        self, modality: Modality, path: str, *, output: str | None = None, frozen: bool = True
    ) -> None:
        super().__init__()
        self.name = f"onnx:{path}"
        self.modality = modality
        self.output = output
        if not flag(frozen, "frozen"):
            raise UsageError(
                f"encoder {self.name!r} of {modality.name!r}: an ONNX file cannot be trained; set "
                "frozen to true, or use the network from its own library"
            )
        self._session: Any = None
        _onnxruntime(self.name)
        blueprint = blueprint_in_use()
        if blueprint is not None:
            self.register_buffer("content", torch.zeros(int(blueprint["bytes"]), dtype=torch.uint8))
            self.out_features = int(blueprint["width"])
            return
        content = np.frombuffer(_read(path, self.name), dtype=np.uint8)
        self.register_buffer("content", torch.from_numpy(content.copy()))
        sample = torch.zeros((2, *modality.shape), dtype=getattr(torch, modality.dtype))
        self.out_features = int(self(sample).shape[1])

    @classmethod
    def weight_files(
        cls, modality: Modality, *member: str, **options: Any
    ) -> tuple[Path, ...] | None:
        """See :meth:`rlmba.models.Encoder.weight_files`."""
        del modality, options
        return (Path(member[0]).expanduser(),)

    def blueprint(self) -> Blueprint:
        """See :meth:`rlmba.models.Encoder.blueprint`."""
        return {"bytes": len(self.content), "width": self.out_features}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out onnxruntime's session, which cannot be copied; it is opened when needed."""
        return {**self.__dict__, "_session": None}

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        self._session = None
        super()._load_from_state_dict(*args, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch ``[n, *modality.shape]`` to ``[n, out_features]``, without a gradient."""
        if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
            raise UsageError(
                f"encoder {self.name!r} of {self.modality.name!r} cannot be exported, because it "
                "already is an ONNX file; use `rlmba predict`"
            )
        session = self._open()
        values = x.detach().cpu()
        there = torch.ones_like(values, dtype=torch.bool)
        if self.modality.kind == "tokens":
            there = values != self.modality.padding
            there[:, 0] |= ~there.any(dim=1)  # the mean over no tokens is not a number
            values = values.masked_fill(~there, 0)
        size = session.get_inputs()[0].shape[0]
        step = size if isinstance(size, int) else max(len(values), 1)
        parts = [
            self._run(session, values[i : i + step], there[i : i + step], step)
            for i in range(0, len(values), step)
        ]
        if not parts:
            return x.new_zeros((0, self.out_features), dtype=torch.float32)
        return torch.cat(parts).to(x.device)

    def _open(self) -> Any:
        if self._session is None:
            runtime = _onnxruntime(self.name)
            options = runtime.SessionOptions()
            options.log_severity_level = 4
            threads = torch.get_num_threads()
            options.intra_op_num_threads = threads
            content = self.content.cpu().numpy().tobytes()
            self._session = self._attempt(
                lambda: runtime.InferenceSession(
                    content, options, providers=["CPUExecutionProvider"]
                ),
                DataError,
                "expected an ONNX file that the installed onnxruntime can run",
            )
            self._check(self._session)
        return self._session

    def _check(self, session: Any) -> None:
        inputs = [i.name for i in session.get_inputs()]
        text = self.modality.kind == "tokens" and set(inputs) <= set(_TEXT_INPUTS)
        if len(inputs) != 1 and not (text and "input_ids" in inputs):
            also = ""
            if self.modality.kind == "tokens":
                also = f", or {_TEXT_INPUTS[0]} with {' and '.join(_TEXT_INPUTS[1:])}"
            raise self._refuse(
                f"expected a network with one input{also}, found the inputs {inputs}; export it again "
                "with these alone"
            )
        strange = [i.type for i in session.get_inputs() if i.type not in _TYPES]
        if strange:
            raise self._refuse(f"expected an input of {list(_TYPES)}, found {strange[0]}")
        integers = session.get_inputs()[0].type in ("tensor(int64)", "tensor(int32)")
        if integers != (self.modality.dtype == "int64"):
            raise self._refuse(
                f"its input is {session.get_inputs()[0].type}, but the modality has "
                f"{self.modality.dtype} values"
            )
        shape, wanted = session.get_inputs()[0].shape, self.modality.shape
        fits = len(shape) == 1 + len(wanted) and all(
            has == size or not isinstance(has, int)
            for has, size in zip(shape[1:], wanted, strict=True)
        )
        if not fits:
            raise self._refuse(
                f"its input has the shape {shape}, but the modality has {['n', *wanted]}"
            )
        outputs = [o.name for o in session.get_outputs()]
        if self.output is None and len(outputs) > 1:
            raise self._refuse(
                f"it has the outputs {outputs}; name the one with the features as option output"
            )
        if self.output is not None and self.output not in outputs:
            raise self._refuse(f"option output: expected one of {outputs}, got {self.output!r}")
        chosen = session.get_outputs()[outputs.index(self.output) if self.output else 0]
        if chosen.type not in _TYPES:
            raise self._refuse(
                f"expected the output {chosen.name!r} to be of {list(_TYPES)}, found {chosen.type}"
            )

    def _run(self, session: Any, values: Tensor, there: Tensor, step: int) -> Tensor:
        n = len(values)
        if n < step:
            filler = values.new_zeros((step - n, *values.shape[1:]))
            values = torch.cat([values, filler])
            there = torch.cat([there, torch.ones_like(filler, dtype=torch.bool)])
        texts = {
            "attention_mask": there,
            "token_type_ids": torch.zeros_like(values),
        }
        feeds = {
            i.name: texts.get(i.name, values).numpy().astype(_TYPES[i.type])
            if self.modality.kind == "tokens"
            else values.numpy().astype(_TYPES[i.type])
            for i in session.get_inputs()
        }
        wanted = self.output or session.get_outputs()[0].name
        found = self._attempt(
            lambda: session.run([wanted], feeds),
            UsageError,
            f"cannot take samples of shape {list(self.modality.shape)}",
        )[0]
        y = torch.from_numpy(np.asarray(found, dtype=np.float32))
        if y.ndim == 3 and self.modality.kind == "tokens" and y.shape[1] == there.shape[1]:
            weights = there[..., None].float()
            y = (y * weights).sum(dim=1) / weights.sum(dim=1)
        if y.ndim != 2 or len(y) != step:
            raise self._refuse(
                f"expected the output {wanted!r} to have the shape [n, width], found "
                f"{list(y.shape)} for n = {step}"
            )
        return y[:n]

    def _attempt(self, call: Callable[[], Any], kind: type[Exception], expected: str) -> Any:
        try:
            return call()
        except Exception as error:  # onnxruntime's exceptions have no common class of their own
            if isinstance(error, MemoryError):
                raise
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise kind(
                f"encoder {self.name!r} of {self.modality.name!r}: {expected}: {line}"
            ) from error

    def _refuse(self, why: str) -> UsageError:
        return UsageError(f"encoder {self.name!r} of {self.modality.name!r}: {why}")


def _onnxruntime(name: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(
            f'encoder {name!r} needs onnxruntime; run pip install "rlmba[onnxruntime]"'
        ) from error
    return onnxruntime


def _read(path: str, name: str) -> bytes:
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UsageError(
            f"encoder {name!r}: expected an ONNX file, but it cannot be read ({error.strerror}); "
            "give the path of an existing one"
        ) from error
    if _EXTERNAL in content:
        raise UsageError(
            f"encoder {name!r}: expected an ONNX file with all its tensors, but some are in other "
            "files; combine them: onnx.save(onnx.load(FILE), NEW_FILE)"
        )
    return content
