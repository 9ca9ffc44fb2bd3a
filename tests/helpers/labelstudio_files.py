"""Batches for the annotator ``labelstudio``, and tasks as Label Studio exports them."""

from __future__ import annotations

import json

from rlmba.annotators import LabelBatch, Question

CLASSES = ("cat", "<b>dog</b>", 'a "b" & c', "$image")


def batch(n=3, round_=3, open_=False, classes=CLASSES, **changes) -> LabelBatch:
    asked = tuple(
        Question(f"a/{i}", i + 1, prediction="cat", probability=0.5, texts={"text": f"<i>{i}</i>"})
        for i in range(n)
    )
    return LabelBatch(round_, classes, open_, {"text": 1.0}, changes.get("questions", asked))


def guide(folder, **project):
    """Make a folder one whose configuration guides annotators."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text('{"format": 1}')
    (folder / "config.yaml").write_text(json.dumps({"project": project}))


def annotation(label=None, *, new=None, **fields):
    result = []
    if label is not None:
        value = {"choices": [label]}
        result.append(
            {"value": value, "id": "x", "from_name": "label", "to_name": "about", "type": "choices"}
        )
    if new is not None:
        result.append(
            {
                "value": {"text": [new]},
                "from_name": "new_class",
                "to_name": "about",
                "type": "textarea",
            }
        )
    fields = {"was_cancelled": False, "ground_truth": False, "completed_by": 1} | fields
    return {"result": result} | fields


def task(number, *annotations, sample=None, round_=3, **data):
    """As Label Studio 1.23 exports it (JSON), less what nobody reads."""
    data = {"sample_id": f"a/{number}" if sample is None else sample, "round": round_} | data
    return {
        "id": 70 + number, "annotations": list(annotations), "file_upload": None,
        "drafts": [{"result": annotation("cat")["result"]}], "predictions": [3], "data": data, "meta": {},
    }  # fmt: skip


def exported(offline, *tasks, name="labelstudio-export.json"):
    (offline.folder / name).write_text(json.dumps(tasks), encoding="utf-8")
