"""timm's networks by name, compared with the library's own features."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from rlmba.data import Modality
from rlmba.errors import UsageError
from rlmba.models import build_encoder, seeded
from tests.helpers.backbones import make, sample, with_gradient

timm = pytest.importorskip("timm")

VIT, CONVNEXT = "test_vit", "test_convnext"
PLAIN = Modality("photo", "image", (3, 160, 160))


def saved(tmp_path, name, **options):
    """A network of timm with a classifier of seven classes, and the file of its weights."""
    with seeded(3):
        network = timm.create_model(name, num_classes=7, **options).eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    return network, str(tmp_path / "w.pth")


def features(network, x):
    with torch.no_grad():
        return network.forward_head(network.forward_features(x), pre_logits=True)


@pytest.mark.parametrize("name", [VIT, CONVNEXT, "test_resnet", "test_efficientnet"])
def test_features_are_those_before_the_classifier(tmp_path, name):
    network, file = saved(tmp_path, name)
    x = sample(PLAIN)
    encoder = make(f"timm:{name}", PLAIN, weights=file, frozen=True)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), features(network, x))
    blueprint = json.loads(json.dumps(encoder.blueprint()))
    again = build_encoder(f"timm:{name}", PLAIN, {"frozen": True}, blueprint=blueprint)
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again(x), encoder(x))


@pytest.mark.parametrize("name", [VIT, CONVNEXT])
@pytest.mark.parametrize("size", [(64, 96), (75, 101), (224, 224)])
def test_images_of_another_size(tmp_path, name, size):
    if (name, size) == (VIT, (75, 101)):
        with pytest.raises(UsageError, match=r"shape \[3, 75, 101\].*divisible by patch size"):
            make(f"timm:{name}", replace(PLAIN, shape=(3, *size)), weights="random")
        return
    own, file = saved(tmp_path, name)
    modality = replace(PLAIN, shape=(3, *size))
    x = sample(modality)
    encoder = make(f"timm:{name}", modality, weights=file, frozen=True)
    library = own
    if name == VIT:  # timm interpolates the position embeddings when it loads weights
        library = timm.create_model(
            name,
            pretrained=True,
            pretrained_cfg_overlay={"state_dict": own.state_dict(), "num_classes": 7},
            num_classes=7,
            img_size=size,
        )
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), features(library.eval(), x))


@pytest.mark.parametrize("name", [VIT, CONVNEXT])
def test_one_channel_is_a_gray_image(tmp_path, name):
    network, file = saved(tmp_path, name)
    gray = replace(PLAIN, shape=(1, 160, 160))
    x = sample(gray)
    encoder = make(f"timm:{name}", gray, weights=file, frozen=True)
    with torch.no_grad():
        expected = features(network, x.expand(-1, 3, -1, -1))
        torch.testing.assert_close(encoder(x), expected, rtol=1e-4, atol=1e-4)


def test_constants_of_the_weights_are_used(tmp_path):
    network, file = saved(tmp_path, VIT)
    cfg = network.pretrained_cfg
    other = replace(PLAIN, mean=(0.1, 0.2, 0.3), deviation=(0.4, 0.5, 0.6))
    pixels = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))

    def standardized(mean, deviation):
        mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in (mean, deviation))
        return (pixels - mean) / deviation

    encoder = make(f"timm:{VIT}", other, weights=file, frozen=True)
    with torch.no_grad():
        found = encoder(standardized(other.mean, other.deviation))
    torch.testing.assert_close(
        found, features(network, standardized(cfg["mean"], cfg["std"])), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", [VIT, CONVNEXT])
def test_all_parameters_are_trained(name):
    encoder = make(f"timm:{name}", PLAIN, weights="random")
    trained = {n for n, p in encoder.named_parameters() if p.requires_grad}
    assert with_gradient(encoder, sample(PLAIN)) == trained
    assert len(trained) == len(list(encoder.network.parameters()))


def test_other_weights_and_names_are_refused(tmp_path):
    _, file = saved(tmp_path, CONVNEXT)
    with pytest.raises(UsageError, match="expected those of"):
        make(f"timm:{VIT}", PLAIN, weights=file)
    with pytest.raises(UsageError, match="no such name and no such file"):
        make(f"timm:{VIT}", PLAIN, weights="imagenet")
    with pytest.raises(UsageError, match="does not exist"):
        make(f"timm:{VIT}", PLAIN, weights="lost.pth")
    with pytest.raises(UsageError, match="did you mean"):
        make("timm:test_vitt", PLAIN)
