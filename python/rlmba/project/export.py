"""Export a trained network to a folder: weights, description and model card, optionally as ONNX."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rlmba import trust
from rlmba.errors import UsageError
from rlmba.hub import check_push, push
from rlmba.learner.trained import EXPORTED, WEIGHTS, Trained
from rlmba.progress import announce
from rlmba.project.card import model_card
from rlmba.project.graph import PRESENT, ExportError, NetworkGraph, write_onnx
from rlmba.project.shared import labels_of, shared_document, shared_history
from rlmba.reading.parquet import pyarrow_for
from rlmba.runfolder.code import encoder_code
from rlmba.storage import atomic_write_text, make_folder
from rlmba.tables import write_table
from rlmba.training import save_model

__all__ = ["LABELS", "ONNX", "Exported", "export", "export_to_hub"]

ONNX = "model.onnx"
LABELS = "labels.parquet"
_README = "README.md"
_KNOWN = {WEIGHTS, EXPORTED, _README, LABELS, ONNX, f"{ONNX}.data"}


@dataclass(frozen=True)
class Exported:
    """Result of :func:`export`.

    ``difference`` is the largest difference between outputs of ONNX Runtime and of torch on random
    inputs; None if no graph was written or ONNX Runtime is not installed. ``labels`` is the number of
    labels in ``labels.parquet``; None if they were not requested. ``url`` is the address of the
    repository to which the folder was uploaded; None without an upload. ``kept`` is False if the folder
    was temporary.
    """

    path: Path
    trained: Trained
    onnx: bool
    labels: int | None = None
    difference: float | None = None
    url: str = ""
    kept: bool = True

    def lines(self) -> list[str]:
        """Summary for the terminal."""
        t = self.trained
        place = self.path if self.kept else self.url
        lines = [
            f"{place}: the network of round {t.round}, {t.labels:,} labels, {len(t.classes)} classes"
        ]
        if self.onnx:
            checked = (
                "not checked: onnxruntime is not installed"
                if self.difference is None
                else f"outputs differ from torch's by at most {self.difference:.1e}"
            )
            lines.append(f"{ONNX}: {checked}")
        if self.labels is not None:
            lines.append(f"{LABELS}: {self.labels:,} labels")
        if self.url and self.kept:
            lines.append(self.url)
        return lines


def export(
    folder: Path,
    out: Path,
    *,
    onnx: bool = False,
    labels: bool = False,
    overwrite: bool = False,
    name: str | None = None,
) -> Exported:
    """Write a run's trained network so that it can be used without the run, and shared.

    The folder contains ``model.safetensors``; ``config.json``, which is the only other file that
    :func:`rlmba.load` needs, and describes how inputs are prepared; the model card ``README.md``; and,
    on request, ``model.onnx`` and ``labels.parquet``. Paths of this machine, options of the data set
    and texts for annotators are left out. ``config.json`` is written last, so a folder that contains it
    is complete.

    Parameters
    ----------
    folder : path
        A run folder, or an exported one.
    out : path
        A new or empty folder.
    onnx : bool
        Also write the fused classifier as ONNX. If that fails, all other files are still written.
    labels : bool
        Also write the ids and labels of the labeled samples; see
        :func:`~rlmba.project.shared.labels_of`.
    overwrite : bool
        Replace an earlier export in ``out``.
    name : str or None
        The name by which the code in the model card loads the network; None: the folder of the card.

    Raises
    ------
    RunFolderError
        If the network cannot be loaded.
    UsageError
        If ``out`` contains other files; if it contains an export and ``overwrite`` is not set; if onnx or
        pyarrow is needed and not installed; or if ``labels`` is set and the folder is not a run.
    ExportError
        If the network cannot be written as ONNX; the message names the encoder. All other files are
        written.
    StorageError
        If a file cannot be written.
    """
    announce("loading the network")
    trained = Trained.load(folder)
    table = labels_of(folder) if labels else None
    if table is not None:
        pyarrow_for(out / LABELS, "writing")
    _check_target(out, overwrite)
    make_folder(out)
    if code := encoder_code(trained.config.model):  # allowed for the run, or it had not been loaded
        trust.allow(out, code)
    for old in (EXPORTED, LABELS, ONNX, f"{ONNX}.data"):
        (out / old).unlink(missing_ok=True)
    document = {**shared_document(trained), **shared_history(folder)}
    announce("writing the weights")
    save_model(out / WEIGHTS, trained.model, config=document["identity"])
    if table is not None:
        write_table(out / LABELS, table)
    difference, failed = None, None
    if onnx:
        try:
            difference = write_onnx(trained, out / ONNX)
        except (ExportError, UsageError) as error:
            failed = error
    done = onnx and failed is None
    card = model_card(trained, document, name=name, onnx=done, labels=LABELS if labels else None)
    atomic_write_text(out / _README, card)
    text = json.dumps(_config(trained, document, onnx=done), indent=1, allow_nan=False)
    atomic_write_text(out / EXPORTED, text + "\n")
    if failed is not None:
        raise type(failed)(f"{failed}. All other files are in {out}") from failed
    return Exported(out, trained, done, None if table is None else len(table["id"]), difference)


def export_to_hub(
    folder: Path,
    name: str,
    *,
    out: Path | None = None,
    private: bool = True,
    onnx: bool = False,
    labels: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Export a network, and upload the exported folder and nothing else to the Hugging Face hub.

    Parameters
    ----------
    folder, onnx, labels, overwrite
        See :func:`export`.
    name : str
        The repository, such as ``owner/model``; it is created if needed.
    out : path or None
        The folder to keep; None: the folder is temporary.
    private : bool
        Whether a new repository is private.

    Raises
    ------
    UsageError
        If the hub cannot be reached or refuses the upload. If this is known at the start, nothing is
        written. If the upload fails later, the folder ``out`` is kept. See also :func:`export`.
    """
    check_push(name)
    with tempfile.TemporaryDirectory() as temporary:
        made = export(
            folder,
            out or Path(temporary, "export"),
            onnx=onnx,
            labels=labels,
            overwrite=overwrite,
            name=name,
        )
        announce("uploading")
        return replace(made, url=push(made.path, name, private=private), kept=out is not None)


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


def _config(trained: Trained, document: Mapping[str, Any], *, onnx: bool) -> dict[str, Any]:
    """The checkpoint's description, plus inputs and outputs for use without rlmba."""
    frozen = {m: {**e, "packaged": False} for m, e in document["frozen"].items()}
    config = {**document, "frozen": frozen, "inputs": _inputs(trained)}
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
