"""Export a trained network to a folder: weights, description and instructions, optionally as ONNX."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlmba import trust
from rlmba.errors import UsageError
from rlmba.learner.trained import EXPORTED, WEIGHTS, Trained
from rlmba.markup import command, markdown_code
from rlmba.progress import announce
from rlmba.project.graph import PRESENT, ExportError, NetworkGraph, write_onnx
from rlmba.runfolder.code import encoder_code
from rlmba.storage import atomic_write_text, make_folder
from rlmba.training import save_model

__all__ = ["ONNX", "Exported", "export"]

ONNX = "model.onnx"
_README = "README.md"
_KNOWN = {WEIGHTS, EXPORTED, _README, ONNX, f"{ONNX}.data"}


@dataclass(frozen=True)
class Exported:
    """Result of :func:`export`.

    ``difference`` is the largest difference between outputs of ONNX Runtime and of torch on random
    inputs; None if no graph was written or ONNX Runtime is not installed.
    """

    path: Path
    trained: Trained
    onnx: bool
    difference: float | None = None

    def lines(self) -> list[str]:
        """Summary for the terminal."""
        t = self.trained
        lines = [
            f"{self.path}: the network of round {t.round}, {t.labels:,} labels, {len(t.classes)} classes"
        ]
        if self.onnx:
            checked = (
                "not checked: onnxruntime is not installed"
                if self.difference is None
                else f"outputs differ from torch's by at most {self.difference:.1e}"
            )
            lines.append(f"{self.path / ONNX}: {checked}")
        return lines


def export(folder: Path, out: Path, *, onnx: bool = False, overwrite: bool = False) -> Exported:
    """Write a run's trained network so that it can be used without the run.

    The folder contains ``model.safetensors``; ``config.json``, which is all that
    :meth:`rlmba.learner.Trained.load` needs besides the weights, and describes how inputs are prepared;
    ``README.md``; and, on request, ``model.onnx``. ``config.json`` is written last, so a folder that
    contains it is complete.

    Parameters
    ----------
    folder : path
        A run folder, or an exported one.
    out : path
        A new or empty folder.
    onnx : bool
        Also write the fused classifier as ONNX. If that fails, all other files are still written.
    overwrite : bool
        Replace an earlier export in ``out``.

    Raises
    ------
    RunFolderError
        If the network cannot be loaded.
    UsageError
        If ``out`` contains other files, or an export and ``overwrite`` is not set, or onnx is needed
        and not installed.
    ExportError
        If the network cannot be written as ONNX; the message names the encoder. All other files are
        written.
    StorageError
        If a file cannot be written.
    """
    announce("loading the network")
    trained = Trained.load(folder)
    _check_target(out, overwrite)
    make_folder(out)
    if code := encoder_code(trained.config.model):  # allowed for the run, or it had not been loaded
        trust.allow(out, code)
    for name in (EXPORTED, ONNX, f"{ONNX}.data"):
        (out / name).unlink(missing_ok=True)
    announce("writing the weights")
    save_model(out / WEIGHTS, trained.model, config=trained.document["identity"])
    difference, failed = None, None
    if onnx:
        try:
            difference = write_onnx(trained, out / ONNX)
        except (ExportError, UsageError) as error:
            failed = error
    done = onnx and failed is None
    atomic_write_text(out / _README, _readme(trained, out.name, onnx=done))
    text = json.dumps(_config(trained, onnx=done), indent=1, allow_nan=False)
    atomic_write_text(out / EXPORTED, text + "\n")
    if failed is not None:
        raise type(failed)(f"{failed}. All other files are in {out}") from failed
    return Exported(out, trained, done, difference)


def _check_target(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"--out: {out} is a file; give a folder")
    there = {p.name for p in out.iterdir()}
    if there - _KNOWN:
        raise UsageError(
            f"--out: {out} holds other files ({sorted(there - _KNOWN)[0]}); give a new folder"
        )
    if there and not overwrite:
        raise UsageError(f"--out: {out} holds an exported network; add --force to replace it")


def _config(trained: Trained, *, onnx: bool) -> dict[str, Any]:
    """The checkpoint's description, plus inputs and outputs for use without rlmba."""
    frozen = {m: {**e, "packaged": False} for m, e in trained.document["frozen"].items()}
    config = {**trained.document, "frozen": frozen, "inputs": _inputs(trained)}
    config.pop("onnx", None)
    if onnx:
        config["onnx"] = {
            "inputs": [*trained.model.names, PRESENT],
            "outputs": NetworkGraph(trained).outputs,
        }
    return config


def _inputs(trained: Trained) -> dict[str, Any]:
    """By modality: shape, dtype, and how stored values become inputs of the network."""
    arrays: Mapping[str, Any] = trained.reading.get("arrays", {})
    inputs = {}
    for modality in trained.modalities:
        described = asdict(modality)
        described.pop("name")
        converter = arrays.get(modality.name)
        if converter is not None:
            described |= {k: converter[k] for k in ("scale", "mean", "deviation", "channels_last")}
        elif modality.mean is not None:
            described["scale"] = 255.0
        described["prepared"] = _PREPARED.get(
            "tokens" if modality.kind == "tokens" else "" if converter is None else "arrays",
            "as described by `reading`; images and videos: (value / scale - mean) / deviation",
        )
        inputs[modality.name] = described
    return inputs


_PREPARED = {
    "tokens": "token ids as described by `reading`, with `padding` after the end of a text",
    "arrays": "(value / scale - mean) / deviation, without those of the three that are null",
}


def _readme(trained: Trained, name: str, *, onnx: bool) -> str:
    """Instructions for the folder, with runnable code."""
    t = trained
    takes = "\n".join(
        f"| {markdown_code(m.name).replace('|', chr(92) + '|')} | {m.kind} | {list(m.shape)} | {m.dtype} |"
        for m in t.modalities
    )
    zeros = ", ".join(
        f"{m.name!r}: torch.zeros((1, {', '.join(map(str, m.shape))}), dtype=torch.{m.dtype})"
        for m in t.modalities
    )
    flag = "--data NEW.npz" if "arrays" in t.reading else "--manifest NEW.csv"
    example = (
        f"```sh\n{command('predict', name)} {flag} --out predictions.csv\n```\n\n"
        if t.reading
        else ""
    )
    graph = _ONNX_PART.format(m=len(t.modalities), feeds=_feeds(t)) if onnx else ""
    return _TEXT.format(
        dataset=markdown_code(t.dataset),
        round=t.round,
        labels=t.labels,
        version=t.document["rlmba"],
        classes=", ".join(map(markdown_code, t.classes[:20]))
        + (", ..." if len(t.classes) > 20 else ""),
        takes=takes,
        command=example,
        zeros=zeros,
        graph=graph,
    )


def _feeds(trained: Trained) -> str:
    return ", ".join(
        f"{m.name!r}: np.zeros((1, {', '.join(map(str, m.shape))}), np.{m.dtype})"
        for m in trained.modalities
    )


_TEXT = """# A network trained with rlmba

Trained on {dataset}, round {round}, {labels} labels, with rlmba {version}. Classes: {classes}.

| modality | kind | shape of a sample | dtype |
|---|---|---|---|
{takes}

`config.json` describes under `inputs` how values are prepared, and under `temperatures`, `weights`
and `predictor` how outputs become probabilities.

## With rlmba

{command}```python
import torch
from rlmba.learner import Trained

trained = Trained.load(".")
inputs = {{{zeros}}}
with torch.no_grad():
    output = trained.model(inputs)
print(trained.classes[output.fused_logits[0].argmax()])
```
{graph}"""

_ONNX_PART = """
## With ONNX Runtime

`present` states which modalities a sample has, in the order above. The input of an absent modality
is ignored, but must be finite. `probabilities` are calibrated and sum to 1.

```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
feeds = {{{feeds}}}
feeds["present"] = np.ones((1, {m}), bool)
probabilities, *_ = session.run(None, feeds)
print(probabilities.shape)
```
"""
