"""A project with the encoders of `rlmba init`, from its first batch to an ONNX file, by the commands."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from rlmba import packaged_weights
from rlmba.cli import main
from rlmba.learner import Trained
from rlmba.project.predict import read_new
from tests.helpers.media_files import write_image

PAIRS = [
    ("all-minilm-l6-v2", "efficientnet-lite0"),
    ("wordllama", "image-statistics"),
    ("ngrams", "image-statistics"),
]
TEXTS = ["a cat purrs on the sofa", "the dog barks at you"]


@pytest.fixture
def pool(tmp_path):
    lines = ["id,image,text"]
    for i in range(24):
        write_image(tmp_path / f"{i}.jpg", seed=i, label=i % 2, size=(40, 36))
        text = "" if i == 7 else f"{TEXTS[i % 2]} {i}"
        lines.append(f"s{i},{'' if i == 5 else f'{i}.jpg'},{text}")
    (tmp_path / "pool.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "pool.csv"


def filled(batch):
    """Fill in the labels of a batch's table, as a person would."""
    with batch.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["label"] = ["cat", "dog"][int(row["id"][1:]) % 2]
    with batch.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def project_of(folder, pool, encoders):
    given = ["--manifest", str(pool), "--annotator", "file", "--classes", "cat,dog"]
    small = ["batch_size=4", "initial_labels=6", "project.validation_labels=6", "device=cpu"]
    small += ["epochs=2", "dataset_options.image_side=72", "model.frozen=true"]
    small += [f"model.encoders.{m}={e}" for m, e in encoders.items()]
    assert main(["init", str(folder), *given, *[w for s in small for w in ("--set", s)]]) == 0
    assert main(["next", str(folder)]) == 0
    filled(folder / "to_label.csv")
    assert main(["collect", str(folder)]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("text", "image"), PAIRS)
def test_the_exported_file_predicts_as_the_project_does(tmp_path, pool, text, image):
    runtime = pytest.importorskip("onnxruntime")
    for name in (text, image):
        if name in packaged_weights.PACKAGED and packaged_weights.find(name) is None:
            pytest.skip(f"the package with {name} is not installed")
    if image == "efficientnet-lite0":
        pytest.importorskip("timm")
    folder = project_of(tmp_path / "p", pool, {"text": text, "image": image})
    assert main(["export", str(folder), "--out", str(tmp_path / "net"), "--onnx"]) == 0
    out = tmp_path / "predictions.jsonl"
    predict = ["predict", str(tmp_path / "net"), "--manifest", str(pool), "--all"]
    assert main([*predict, "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    expected = np.array([[row["p_cat"], row["p_dog"]] for row in rows])

    trained = Trained.load(tmp_path / "net")
    dataset = read_new(trained, manifest=pool)
    batch = dataset.batch(np.arange(len(dataset)), train=False, generator=None)
    session = runtime.InferenceSession(str(tmp_path / "net" / "model.onnx"))
    feeds = {m: x.numpy() for m, x in batch.inputs.items()}
    (found,) = session.run(["probabilities"], {**feeds, "present": batch.present.numpy()})
    assert [row["id"] for row in rows] == dataset.ids.tolist()
    assert not batch.present.all()
    np.testing.assert_allclose(found, expected, atol=1e-4)
