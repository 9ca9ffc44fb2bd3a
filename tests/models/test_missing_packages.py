"""Encoders whose package or weights are missing, damaged, or another network's: one clear error each."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import torch

from rlmba import packaged_weights
from rlmba.cli import main
from rlmba.errors import RlmbaError
from rlmba.learner import ActiveLearner
from tests.helpers.media_files import write_image

PRETRAINED = 'run pip install "rlmba[pretrained]"'
REINSTALL = "reinstall them: pip install --force-reinstall --no-deps"
MODULES = {
    "timm": ("image", "timm:resnet10t", 'run pip install "rlmba[timm]"'),
    "open_clip": ("text", "open_clip:ViT-B-32", 'run pip install "rlmba[open-clip]"'),
    "onnxruntime": ("image", "onnx:net.onnx", 'run pip install "rlmba[onnxruntime]"'),
}
WEIGHTS = {
    "efficientnet-lite0": "image",
    "all-minilm-l6-v2": "text",
    "wordllama": "text",
}


@pytest.fixture
def pool(tmp_path):
    lines = ["id,image,text,label"]
    for i in range(16):
        write_image(tmp_path / f"{i}.jpg", seed=i, label=i % 2, size=(40, 36))
        lines.append(f"s{i},{i}.jpg,a dog {i},{'ab'[i % 2]}")
    (tmp_path / "pool.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "pool.csv"


def error_of(how, modality, encoder, pool, capsys):
    """What a user reads, on a single line."""
    out = pool.parent / "out"
    if how == "ActiveLearner":
        shape = (16, 3, 32, 32) if modality == "image" else (16, 8)
        values = np.zeros(shape, np.float32 if modality == "image" else np.int64)
        settings = {f"model.encoders.{modality}": encoder, "device": "cpu"}
        kinds = {modality: "image" if modality == "image" else "tokens"}
        with pytest.raises(RlmbaError) as caught:
            ActiveLearner.from_arrays(
                {modality: values}, classes=["a", "b"], kinds=kinds, settings=settings
            )
        return " ".join(str(caught.value).split())
    where = (
        ["init", str(out), "--manifest", str(pool)]
        if how == "init"
        else ["run", "--dataset", "manifest", "--data", str(pool), "--output", str(out)]
    )
    assert main([*where, "--set", f"model.encoders.{modality}={encoder}", "--set", "device=cpu"])
    assert not (out / "run.json").exists()
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.count("error:") == 1
    return " ".join(said.split())


@pytest.mark.parametrize("how", ["init", "run", "ActiveLearner"])
@pytest.mark.parametrize("module", MODULES)
def test_a_library_that_is_not_installed(pool, monkeypatch, capsys, how, module):
    modality, encoder, advice = MODULES[module]
    monkeypatch.setitem(sys.modules, module, None)
    said = error_of(how, modality, encoder, pool, capsys)
    assert encoder in said
    assert advice in said


@pytest.mark.parametrize("how", ["init", "run", "ActiveLearner"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_not_installed(pool, monkeypatch, capsys, how, name):
    if name == "efficientnet-lite0":
        pytest.importorskip("timm")
    known = packaged_weights.PACKAGED[name]
    absent = dataclasses.replace(known, distribution="no-such-distribution")
    monkeypatch.setitem(packaged_weights.PACKAGED, name, absent)
    said = error_of(how, WEIGHTS[name], name, pool, capsys)
    assert f"encoder '{name}'" in said
    assert PRETRAINED in said


@pytest.mark.parametrize("how", ["init", "run", "ActiveLearner"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_damaged_weights(pool, monkeypatch, capsys, tmp_path, how, name):
    if name == "efficientnet-lite0":
        pytest.importorskip("timm")
    damaged = tmp_path / "model.safetensors"
    damaged.write_bytes(b"cut off")
    files = packaged_weights.PACKAGED[name].files
    monkeypatch.setattr(packaged_weights, "find", lambda _: (damaged,) * len(files))
    monkeypatch.setattr(packaged_weights.metadata, "version", lambda _: "9.9")
    said = error_of(how, WEIGHTS[name], name, pool, capsys)
    assert str(damaged) in said
    assert REINSTALL in said


@pytest.mark.parametrize("how", ["init", "run", "ActiveLearner"])
def test_weights_of_another_shape(pool, capsys, tmp_path, how):
    timm = pytest.importorskip("timm")
    path = tmp_path / "w.pth"
    state = timm.create_model("test_vit", num_classes=0).state_dict()
    torch.save({**state, "norm.weight": torch.ones(5)}, path)
    encoder = f"{{name: timm:test_vit, weights: {path}}}"
    given = {"name": "timm:test_vit", "weights": str(path)} if how == "ActiveLearner" else encoder
    said = error_of(how, "image", given, pool, capsys)
    assert f"weights {path}: expected those of this network" in said
    assert "norm.weight" in said


def test_efficientnet_without_timm(pool, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "timm", None)
    said = error_of("init", "image", "efficientnet-lite0", pool, capsys)
    assert "encoder 'efficientnet-lite0' of 'image' needs timm" in said
