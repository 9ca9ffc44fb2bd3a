"""The model card of an exported network: its training data, its accuracy, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlmba.config import yaml12
from rlmba.learner.trained import Trained
from rlmba.markup import markdown, markdown_code

__all__ = ["model_card"]

_MOST_CLASSES = 20
_TASKS = {
    "image": "image-classification",
    "tokens": "text-classification",
    "waveform": "audio-classification",
    "spectrogram": "audio-classification",
    "video": "video-classification",
    "features": "tabular-classification",
    "sequence": "time-series-classification",
}
"""Names of tasks on the hub, by the kind of the only modality."""


def model_card(
    trained: Trained,
    document: Mapping[str, Any],
    *,
    name: str | None = None,
    onnx: bool = False,
    labels: str | None = None,
) -> str:
    """Return the model card: Markdown with a YAML header for the Hugging Face hub, and code that runs.

    Parameters
    ----------
    trained : Trained
    document : mapping
        The exported description. If the network comes from a run, it includes the history of the run.
    name : str or None
        The name on the hub by which the code loads the network; None: the code loads the folder of the
        card.
    onnx : bool
        Whether the folder contains ``model.onnx``.
    labels : str or None
        Name of the file with the labels; None if the folder has none.
    """
    header = yaml12.dump(_header(trained, document, labels))
    parts = [
        _TEXT.format(
            dataset=markdown_code(trained.dataset),
            round=trained.round,
            labels=trained.labels,
            version=markdown(str(document["rlmba"])),
            classes=_classes(trained),
            takes=_takes(trained),
        ),
        _history(document),
        _LOAD.format(name=name or ".", samples=_samples(trained)),
    ]
    if labels is not None:
        parts.append(_LABELS.format(file=labels, place=f"hf://{name}/{labels}" if name else labels))
    if onnx:
        parts.append(_ONNX.format(m=len(trained.modalities), feeds=_zeros(trained)))
    return f"---\n{header}---\n\n" + "\n".join(part for part in parts if part)


def _header(trained: Trained, document: Mapping[str, Any], labels: str | None) -> dict[str, Any]:
    kinds = list(dict.fromkeys(m.kind for m in trained.modalities))
    header: dict[str, Any] = {
        "library_name": "rlmba",
        "tags": [
            "rlmba",
            "active-learning",
            *(["multimodal"] if len(trained.modalities) > 1 else []),
        ],
    }
    if len(kinds) == 1:
        header["pipeline_tag"] = _TASKS[kinds[0]]
    if curve := document.get("curve"):
        task = {"type": header.get("pipeline_tag", "other")}
        data = {"name": trained.dataset, "type": trained.dataset, "split": document["measured_on"]}
        metrics = [{"type": "accuracy", "value": curve[-1]["top1"]}]
        result = {"task": task, "dataset": data, "metrics": metrics}
        header["model-index"] = [{"name": f"rlmba on {trained.dataset}", "results": [result]}]
    if labels is not None:
        header["configs"] = [{"config_name": "labels", "data_files": labels}]
    return header


def _classes(trained: Trained) -> str:
    named = ", ".join(map(markdown_code, trained.classes[:_MOST_CLASSES]))
    left = len(trained.classes) - _MOST_CLASSES
    return named + (f", and {left:,} more" if left > 0 else "")


def _takes(trained: Trained) -> str:
    return "\n".join(
        f"| {markdown_code(m.name).replace('|', chr(92) + '|')} | {m.kind} | {list(m.shape)} | {m.dtype} |"
        for m in trained.modalities
    )


def _history(document: Mapping[str, Any]) -> str:
    curve = document.get("curve")
    if not curve:
        return ""
    rows = "\n".join(
        f"| {c['labels']:,} | {c['top1']:.1%} | {c['nll']:.3f} | {c['ece']:.3f} |" for c in curve
    )
    return _CURVE.format(
        strategy=markdown_code(str(document["strategy"])),
        fusion=markdown_code(str(document["fusion"])),
        seed=document["seed"],
        split=document["measured_on"],
        rows=rows,
    )


def _samples(trained: Trained) -> str:
    """Samples to predict: zeros, or the name of a manifest."""
    if "arrays" not in trained.reading:
        return '"new.csv"  # with the columns of the training data'
    shapes = {m: described["shape"] for m, described in trained.reading["arrays"].items()}
    pairs = ", ".join(f"{m!r}: np.zeros({(1, *shape)})" for m, shape in shapes.items())
    return f"{{{pairs}}}"


def _zeros(trained: Trained) -> str:
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
"""

_CURVE = """## How it was trained

The labeled samples were chosen by active learning: strategy {strategy}, fusion {fusion}, seed {seed}. Top-1,
NLL and calibration error of the fused head on the {split} set after each round:

| labels | Top-1 | NLL | ECE |
|---|---|---|---|
{rows}
"""

_LOAD = """## With rlmba

```python
import numpy as np
import rlmba

model = rlmba.load({name!r})
samples = {samples}
predictions = model.predict(samples)
print(predictions.labels, predictions.probabilities.max(axis=1))
```

`model.trained.model` is the network, a `torch.nn.Module`. Nothing in this folder is run as code.
"""

_LABELS = """## Labels

`{file}` has the labeled samples: `id`, `label`, `round`, `split`.

```python
import datasets

labels = datasets.load_dataset("parquet", data_files={place!r}, split="train")
```
"""

_ONNX = """## With ONNX Runtime

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
