"""Encoders that wrap networks of torchvision, and the files that their weights come from."""

from __future__ import annotations

import re

import pytest
import safetensors.torch
import torch
from torch import nn

from rlmba.data import Modality
from rlmba.errors import DataError, UsageError
from rlmba.models import seeded
from tests.helpers.backbones import (
    IMAGE,
    IMAGENET,
    SMALL,
    SOUND,
    VIDEO,
    colored,
    make,
    sample,
    trained,
    with_gradient,
)
from tests.helpers.float64 import in_float64

ARCHITECTURES = [
    ("torchvision:resnet34", SMALL, 512),
    ("convnext_tiny", SMALL, 768),
    ("swin_t", SMALL, 768),
    ("vit_b_32", SMALL, 768),
    ("squeezenet1_1", IMAGE, 512),
    ("alexnet", IMAGE, 4096),
    ("googlenet", SMALL, 1024),
    ("densenet121", SMALL, 1024),
    ("efficientnet_b0", SMALL, 1280),
    ("mobilenet_v3_small", SMALL, 1024),
    ("mnasnet0_5", SMALL, 1280),
    ("regnet_y_400mf", SMALL, 440),
    ("shufflenet_v2_x0_5", SMALL, 1024),
    ("resnet101", SMALL, 2048),
    ("r2plus1d-18", VIDEO, 512),
    ("mc3_18", VIDEO, 512),
    ("swin3d_t", VIDEO, 768),
    ("audio-resnet18", SOUND, 512),
    ("audio-resnet18", Modality("sound", "spectrogram", (2, 40, 33)), 512),
    ("resnet18", Modality("gray", "image", (1, 32, 32)), 512),
]


@pytest.mark.parametrize(("name", "modality", "width"), ARCHITECTURES)
@pytest.mark.slow
def test_any_torchvision_network(name, modality, width):
    """Width, finite features, gradients of every parameter, and a last minibatch of one."""
    encoder = in_float64(make(name, modality, weights="random"))
    assert encoder.out_features == width
    x = sample(modality)
    encoder.eval()
    out = encoder(x)
    assert out.shape == (2, width)
    assert torch.isfinite(out).all()
    torch.testing.assert_close(encoder(x[1:]), out[1:])
    encoder.train()
    assert with_gradient(encoder, x) == trained(encoder) == set(dict(encoder.named_parameters()))
    alone = encoder(x[:1])
    assert torch.isfinite(alone).all()
    assert all(m.training for m in encoder.modules())


def library(name, **options):
    """The network as torchvision builds it from the same seed, with an identity as classifier."""
    from torchvision import models

    with seeded(0):
        network = models.get_model(name, **options)
    network.fc = nn.Identity()
    return network.eval()


@pytest.mark.parametrize(
    ("name", "theirs", "modality"),
    [("resnet101", "resnet101", IMAGE), ("r2plus1d-18", "r2plus1d_18", VIDEO)],
)
def test_features_are_the_librarys(name, theirs, modality):
    encoder, network = make(name, modality, weights="random").eval(), library(theirs)
    network.load_state_dict(encoder.network.state_dict())
    x = sample(modality).double()
    torch.testing.assert_close(encoder.double()(x), network.double()(x))


@pytest.mark.parametrize("name", ["resnet18", "r2plus1d-18", "audio-resnet18"])
def test_memory_format_changes_no_numbers(name):
    modality = {"r2plus1d-18": VIDEO, "audio-resnet18": SOUND}.get(name, IMAGE)
    encoder = in_float64(make(name, modality, weights="random")).eval()
    x = sample(modality)
    out = encoder(x)
    layout = torch.channels_last_3d if modality.kind == "video" else torch.channels_last
    kernels = [p for p in encoder.parameters() if p.ndim == (5 if modality.kind == "video" else 4)]
    assert encoder.memory_format is layout
    assert all(p.is_contiguous(memory_format=layout) for p in kernels)
    encoder.memory_format = None
    for p in kernels:
        p.data = p.data.contiguous()
    torch.testing.assert_close(encoder(x), out)


def test_batch_of_one_takes_running_statistics_only_where_it_must():
    """At 32 x 32 the last maps are one pixel; nothing else of the pass differs from training."""
    encoder = make("resnet18", SMALL, weights="random")
    x = sample(SMALL, 1)
    encoder(x).sum().backward()
    steps = {n: m.num_batches_tracked.item() for n, m in norms(encoder)}
    assert {n for n, k in steps.items() if k == 0} == {n for n in steps if "layer4" in n}
    assert all(m.training for _, m in norms(encoder))
    encoder(torch.cat([x, x]))
    assert all(m.num_batches_tracked > 0 for _, m in norms(encoder))


def norms(encoder):
    return [(n, m) for n, m in encoder.named_modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize("form", ["pth", "safetensors", "wrapped", "module", "backbone", "no fc"])
def test_weights_from_a_file(tmp_path, form):
    network = colored(7)
    state = network.state_dict()
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "no fc":
        state = {k: v for k, v in state.items() if not k.startswith("fc.")}
    if form in ("module", "backbone"):
        state = {f"{form}.{k}": v for k, v in state.items()}
    if form == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if form == "wrapped" else state, path)
    network.fc = nn.Identity()
    encoder = in_float64(make("resnet18", IMAGE, weights=str(path)).eval())
    x = sample(IMAGE)
    torch.testing.assert_close(encoder(x), in_float64(network).eval()(x))


def test_old_spelling_of_densenets_files(tmp_path):
    with seeded(7):
        state = library("densenet121").state_dict()
    old = {re.sub(r"(denselayer\d+\.\w+?)([12]\.)", r"\1.\2", k): v for k, v in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "w.pth")
    encoder = make("densenet121", SMALL, weights=str(tmp_path / "w.pth"))
    assert all(torch.equal(v, state[k]) for k, v in encoder.network.state_dict().items())


def test_named_weights_are_taken_from_the_librarys_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    network = colored(7)
    torch.save(network.state_dict(), folder / "resnet18-f37072fd.pth")
    encoder = make("resnet18", IMAGE, weights="IMAGENET1K_V1").eval()
    torch.testing.assert_close(encoder.network.conv1.weight, network.conv1.weight)


def test_color_weights_on_other_channels(tmp_path):
    """A sample with equal channels gives the result of a gray image."""
    torch.save(colored(7).state_dict(), tmp_path / "w.pth")
    network = in_float64(colored(7).eval())
    network.fc = nn.Identity()
    for channels in (1, 2):
        modality = Modality("sound", "spectrogram", (channels, 64, 64))
        encoder = in_float64(
            make("audio-resnet18", modality, weights=str(tmp_path / "w.pth")).eval()
        )
        x = torch.randn((2, 1, 64, 64), generator=torch.Generator().manual_seed(0))
        expected = network(x.expand(-1, 3, -1, -1))
        out = encoder(x.expand(-1, channels, -1, -1))
        # The first kernel's weights are rescaled in float32, when they are loaded.
        torch.testing.assert_close(out, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_places_of_a_vision_transformer_are_interpolated(tmp_path):
    from torchvision.models import vit_b_32
    from torchvision.models.vision_transformer import interpolate_embeddings

    with seeded(3):
        state = vit_b_32(image_size=64).state_dict()
    nn.init.normal_(state["encoder.pos_embedding"])
    torch.save(state, tmp_path / "w.pth")
    wide = Modality("photo", "image", (3, 96, 96))
    encoder = make("vit_b_32", wide, weights=str(tmp_path / "w.pth"))
    expected = interpolate_embeddings(96, 32, dict(state))["encoder.pos_embedding"]
    torch.testing.assert_close(encoder.network.encoder.pos_embedding, expected)


def test_standardization_is_converted_to_that_of_the_weights(tmp_path):
    torch.save(colored().state_dict(), tmp_path / "w.pth")
    path = str(tmp_path / "w.pth")
    raw = torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(0))

    def standardized(mean, deviation):
        return (raw - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]

    other = {"mean": (0.5, 0.4, 0.3), "deviation": (0.2, 0.3, 0.4)}
    own = in_float64(make("resnet18", IMAGE, weights=path).eval())
    converting = in_float64(
        make("resnet18", Modality("p", "image", (3, 64, 64), **other), weights=path).eval()
    )
    unknown = make("resnet18", Modality("p", "image", (3, 64, 64)), weights=path).eval()
    assert own.scale is None
    assert unknown.scale is None
    expected = own(standardized(*IMAGENET.values()))
    out = converting(standardized(*other.values()))
    torch.testing.assert_close(out, expected, rtol=1e-3, atol=1e-4)
    assert set(converting.state_dict()) == set(own.state_dict())
    assert (
        make("resnet18", Modality("p", "image", (3, 64, 64), **other), weights="random").scale
        is None
    )


def test_weights_of_another_network(tmp_path):
    path = tmp_path / "w.pth"
    state = colored().state_dict()
    torch.save({k: v for k, v in state.items() if "layer4" not in k}, path)
    with pytest.raises(UsageError, match=r"they lack layer4\.0\..* and 22 more"):
        make("resnet18", IMAGE, weights=str(path))
    torch.save({**state, "extra.weight": torch.zeros(2)}, path)
    with pytest.raises(UsageError, match=r"there are also extra\.weight"):
        make("resnet18", IMAGE, weights=str(path))
    torch.save(state, path)
    with pytest.raises(UsageError, match=r"w.pth: expected those of this network"):
        make("resnet50", IMAGE, weights=str(path))


def test_damaged_files(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(colored().state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"w\.pth: .*damaged"):
        make("resnet18", IMAGE, weights=str(path))
    torch.save(colored(), path)
    with pytest.raises(DataError, match="run code"):
        make("resnet18", IMAGE, weights=str(path))
    torch.save([1, 2], path)
    with pytest.raises(DataError, match="expected a state dict, got list"):
        make("resnet18", IMAGE, weights=str(path))
    other = tmp_path / "w.safetensors"
    other.write_bytes(b"\x10" * 40)
    with pytest.raises(DataError, match=r"w\.safetensors: .*damaged"):
        make("resnet18", IMAGE, weights=str(other))
