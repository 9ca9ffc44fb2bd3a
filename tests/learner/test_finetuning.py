"""Runs that train pretrained encoders of timm and open_clip, and that continue after an interruption."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rlmba.config import load_config
from rlmba.learner import run
from rlmba.models import seeded
from tests.helpers.interrupting import StopAfter, Stopped
from tests.helpers.media_files import write_image

timm = pytest.importorskip("timm")
open_clip = pytest.importorskip("open_clip")

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def pool(tmp_path):
    """Two classes told by color and words."""
    lines = ["id,image,text,label,split"]
    for i in range(40):
        write_image(tmp_path / f"{i}.jpg", seed=i, label=i % 2, size=(40, 36))
        text = ["a cat purrs", "the dog barks"][i % 2]
        split = "test" if i >= 32 else "val" if i >= 26 else ""
        lines.append(f"s{i},{i}.jpg,{text} {i},{['cat', 'dog'][i % 2]},{split}")
    (tmp_path / "pool.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "pool.csv"


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Files of weights that networks start from, by network."""
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {"tiny": TINY})
    with seeded(2):
        networks = {
            "timm:test_resnet": timm.create_model("test_resnet"),
            "timm:test_vit": timm.create_model("test_vit"),
            "open_clip:tiny": open_clip.create_model("tiny", load_weights=False),
        }
    files = {}
    for name, network in networks.items():
        files[name] = tmp_path / f"{name.partition(':')[2]}.pth"
        torch.save(network.state_dict(), files[name])
    return files


def config(pool, weights, image):
    def encoder(name):
        return {"name": name, "weights": str(weights[name])}

    return load_config(
        overrides={
            "dataset": "manifest",
            "data": str(pool),
            "device": "cpu",
            "model.encoders": {"image": encoder(image), "text": encoder("open_clip:tiny")},
        },
        settings=[
            "dataset_options.image_side=37",
            "model.width=16",
            "rounds=2",
            "batch_size=4",
            "initial_labels=6",
            "epochs=1",
            "training.min_steps=4",
            "training.workers=0",
        ],
    )


def trained(folder, name="round_002"):
    return load_file(folder / "checkpoints" / name / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("image", ["timm:test_resnet", "timm:test_vit", "open_clip:tiny"])
def test_encoders_are_trained_and_a_run_continues(pool, weights, tmp_path, image):
    given = config(pool, weights, image)
    whole = run(given, tmp_path / "whole")
    found = trained(whole.path)
    for number, name in enumerate(["open_clip:tiny", image]):
        tower = "visual." if number == 1 and name == image == "open_clip:tiny" else ""
        initial = {
            f"encoders.{number}.network.{key.removeprefix(tower)}": value
            for key, value in torch.load(weights[name], weights_only=True).items()
            if key.startswith(tower)
        }
        same = {k for k, v in initial.items() if k in found and found[k].shape == v.shape}
        matrices = {k for k in same if initial[k].ndim > 1}
        assert len(matrices) >= 5
        assert all((found[k] != initial[k]).any() for k in matrices)

    for _ in range(2):
        with pytest.raises(Stopped):
            run(given, tmp_path / "parts", resume=True, observer=StopAfter())
    parts = run(given, tmp_path / "parts", resume=True)
    for a, b in zip(whole.records, parts.records, strict=True):
        assert a.test == b.test
    for file in sorted((whole.path / "selected").iterdir()):
        assert file.read_text() == (parts.path / "selected" / file.name).read_text()
    again = trained(parts.path)
    assert set(found) == set(again)
    for key, tensor in found.items():
        np.testing.assert_array_equal(tensor.numpy(), again[key].numpy())
