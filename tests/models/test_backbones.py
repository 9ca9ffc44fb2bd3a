"""Encoders that wrap torchvision and transformers networks, small or with random weights."""

from __future__ import annotations

import copy
import json
import re
import time

import pytest
import safetensors.torch
import torch
from torch import nn

from rlmba.config import ModelConfig
from rlmba.data import Modality
from rlmba.errors import DataError, UsageError
from rlmba.models import build_classifier, build_encoder, encoder_names, seeded
from tests.helpers.float64 import in_float64

IMAGENET = {"mean": (0.485, 0.456, 0.406), "deviation": (0.229, 0.224, 0.225)}
IMAGE = Modality("photo", "image", (3, 64, 64), **IMAGENET)
SMALL = Modality("photo", "image", (3, 32, 32), **IMAGENET)
VIDEO = Modality("clip", "video", (3, 4, 32, 32))
SOUND = Modality("sound", "spectrogram", (1, 65, 64))
WORDS = Modality("words", "tokens", (12,), "int64", vocabulary=99, padding=-1)
TINY = {"weights": "random", "layers": 2, "width": 32, "heads": 2}
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def make(name, modality, seed=0, **options):
    with seeded(seed):
        return build_encoder(name, modality, options)


def sample(modality, n=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    if modality.kind == "tokens":
        return torch.randint(2, 90, (n, *modality.shape), generator=generator)
    return torch.randn((n, *modality.shape), generator=generator)


def trained(encoder):
    return {n for n, p in encoder.named_parameters() if p.requires_grad}


def with_gradient(encoder, x):
    """Parameters with a gradient after a backward pass; the deepest gradient must not be zero."""
    with seeded(0):
        encoder(x).square().sum().backward()
    kernel = next(p for p in encoder.parameters() if p.requires_grad and p.ndim > 1 and len(p) > 1)
    assert kernel.grad.any()
    return {n for n, p in encoder.named_parameters() if p.grad is not None}


def texts(lengths, extra=0, seed=1):
    """Texts of given lengths, ending in token 98, padded with -1."""
    x = torch.full((len(lengths), max(lengths) + extra), -1)
    generator = torch.Generator().manual_seed(seed)
    for row, length in zip(x, lengths, strict=True):
        row[:length] = torch.randint(2, 90, (length,), generator=generator)
        row[length - 1] = 98
    return x


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of tiny models, written by transformers itself."""
    import transformers as t

    root = tmp_path_factory.mktemp("models")
    text = {**SIZES, "vocab_size": 99, "max_position_embeddings": 16}
    vision = {**SIZES, "image_size": 32, "patch_size": 8}
    ends = {"eos_token_id": 98, "bos_token_id": 97, "pad_token_id": 98, "projection_dim": 16}
    models = {
        "bert": lambda: t.BertForPreTraining(t.BertConfig(**text)),
        "bert-bare": lambda: t.BertModel(t.BertConfig(**text), add_pooling_layer=False),
        "roberta": lambda: t.RobertaModel(t.RobertaConfig(**text)),
        "t5": lambda: t.T5Model(
            t.T5Config(vocab_size=99, d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2)
        ),
        "vit": lambda: t.ViTModel(t.ViTConfig(**vision)),
        "dino": lambda: t.Dinov2Model(t.Dinov2Config(**{**vision, "mlp_ratio": 2})),
        "convnext": lambda: t.ConvNextModel(
            t.ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])
        ),
        "clip": lambda: t.CLIPModel(
            t.CLIPConfig(
                text_config={**text, **ends},
                vision_config={**vision, "projection_dim": 16},
                projection_dim=16,
            )
        ),
        "siglip": lambda: t.SiglipModel(
            t.SiglipConfig(text_config={**text, "projection_size": 32}, vision_config=vision)
        ),
    }
    with seeded(5):
        for name, build in models.items():
            build().save_pretrained(root / name)
    return root


# Networks of torchvision.

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


def colored(seed=0):
    from torchvision.models import resnet18

    with seeded(seed):
        return resnet18()


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


def test_frozen_stays_as_in_evaluation():
    encoder = in_float64(make("resnet18", SMALL, weights="random", frozen=True))
    x = sample(SMALL, 4)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    out = encoder.train()(x)
    assert not out.requires_grad
    assert trained(encoder) == set()
    assert not any(m.training for m in encoder.modules())
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    torch.testing.assert_close(encoder.eval()(x), out)
    words = make("bert-base", WORDS, **TINY, frozen=True).train()
    assert torch.equal(words(sample(WORDS)), words(sample(WORDS)))


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


# Networks of transformers.


def test_bert_is_the_librarys_first_token(folders):
    from transformers import AutoModel

    encoder = in_float64(make("bert-base", WORDS, weights=str(folders / "bert"))).eval()
    network = in_float64(AutoModel.from_pretrained(folders / "bert")).eval()
    x = texts([12, 5, 9])
    there = x != -1
    out = network(input_ids=x.masked_fill(~there, 0), attention_mask=there.long())
    torch.testing.assert_close(encoder(x), out.last_hidden_state[:, 0])
    for pooling, expected in {
        "pooler": out.pooler_output,
        "mean": torch.stack(
            [s[t].mean(0) for s, t in zip(out.last_hidden_state, there, strict=True)]
        ),
    }.items():
        other = make("bert-base", WORDS, weights=str(folders / "bert"), pooling=pooling).eval()
        in_float64(other)
        torch.testing.assert_close(other(x), expected)


def test_bert_base_is_bert_base():
    encoder = make("bert-base", WORDS, weights="random", layers=1)
    assert encoder.out_features == 768
    assert encoder.network.config.num_attention_heads == 12
    assert encoder.network.config.intermediate_size == 3072


@pytest.mark.parametrize("pooling", ["cls", "mean", "pooler"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_bert_gradients(pooling, checkpointing):
    options = {**TINY, "pooling": pooling, "gradient_checkpointing": checkpointing}
    encoder = make("bert-base", WORDS, **options)
    with torch.inference_mode():
        assert encoder(sample(WORDS)).shape == (2, 32)
    reached = with_gradient(encoder, sample(WORDS))
    assert reached == trained(encoder) == set(dict(encoder.named_parameters()))


def test_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        encoder = in_float64(make("bert-base", WORDS, **TINY, gradient_checkpointing=checkpointing))
        for m in encoder.modules():
            if isinstance(m, nn.Dropout):
                m.p = 0.0
        encoder(sample(WORDS)).square().sum().backward()
        gradients.append({n: p.grad for n, p in encoder.named_parameters()})
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bert-base", TINY),
        ("bert-base", {**TINY, "pooling": "mean"}),
        ("roberta", {}),
        ("t5", {"pooling": "mean"}),
        ("clip", {}),
        ("siglip", {}),
        ("text-transformer", {"width": 16}),
    ],
)
@pytest.mark.parametrize("padding", [-1, 0])
def test_padding_changes_nothing(folders, name, options, padding):
    if name in ("clip", "siglip"):
        name, options = "two-tower", {"weights": str(folders / name)}
    elif (folders / name).exists():
        name = f"transformers:{folders / name}"
    short, long = texts([7, 4, 1]), texts([7, 4, 1], extra=5)
    states = []
    for x in (short, long):
        modality = Modality("t", "tokens", (x.shape[1],), "int64", vocabulary=99, padding=padding)
        encoder = in_float64(make(name, modality, **options)).eval()
        if states and name == "text-transformer":
            state = states[0][0].state_dict()
            state["places"] = torch.cat([state["places"], torch.randn(5, 16)])
            encoder.load_state_dict(state)
        states.append((encoder, x.masked_fill(x == -1, padding)))
    (one, x), (two, y) = states
    torch.testing.assert_close(one(x), two(y))
    # The last token before the padding is used: the mask does not cut it off.
    x = x.clone()
    x[0, 5] = 1
    assert (one(x)[0] - two(y)[0]).abs().max() > 1e-5
    nothing = torch.full_like(y, padding)
    assert torch.isfinite(two(nothing)).all()


def test_token_zero_is_a_token_where_padding_is_another():
    encoder = make("text-transformer", WORDS, width=16).eval()
    x = texts([5], extra=7)
    y = x.clone()
    y[0, 2] = 0
    assert (encoder(x) - encoder(y)).abs().max() > 1e-4
    encoder.train()
    encoder(y)[:, :8].sum().backward()
    assert encoder.tokens.weight.grad[0].any()


@pytest.mark.parametrize(
    ("name", "poolings"),
    [
        ("vit", {None: "cls", "cls": "cls", "mean": "mean", "pooler": "pooler"}),
        ("dino", {None: "cls", "mean": "mean", "pooler": "pooler"}),
        ("convnext", {None: "pooler", "mean": "mean"}),
    ],
)
def test_vision_networks(folders, name, poolings):
    from transformers import AutoModel

    network = AutoModel.from_pretrained(folders / name).double().eval()
    x = sample(SMALL).double()
    out = network(pixel_values=x)
    states = out.last_hidden_state
    expected = {
        "cls": states[:, 0],
        "mean": states.mean(1) if states.ndim == 3 else states.mean((2, 3)),
        "pooler": out.pooler_output.flatten(1),
    }
    for option, pooling in poolings.items():
        encoder = in_float64(make(f"transformers:{folders / name}", SMALL, pooling=option))
        torch.testing.assert_close(encoder.eval()(x), expected[pooling])
        assert with_gradient(encoder.train(), x) == trained(encoder)
    wide = Modality("photo", "image", (3, 32, 48))
    assert make(f"transformers:{folders / name}", wide)(sample(wide)).shape == (
        2,
        states.shape[1 if name == "convnext" else 2],
    )


def test_two_towers_are_the_librarys(folders):
    """Features are taken after the projection, and only the tower in use is kept."""
    from transformers import CLIPModel

    network = CLIPModel.from_pretrained(folders / "clip").double().eval()
    ids = texts([12, 5, 9])
    there = ids != -1
    text = in_float64(make("two-tower", WORDS, weights=str(folders / "clip"))).eval()
    image = in_float64(make("two-tower", SMALL, weights=str(folders / "clip"))).eval()
    with torch.no_grad():
        states = network.text_model(ids.masked_fill(~there, 98), there.long()).pooler_output
        out = text(ids)
        torch.testing.assert_close(out, network.text_projection(states))
        # Position 4 holds the end of the second text, which CLIP pools at.
        hidden = network.text_model(ids[1:2, :5]).last_hidden_state[:, 4]
        torch.testing.assert_close(out[1:2], network.text_projection(hidden))
        x = sample(SMALL).double()
        raw = x * torch.tensor(SMALL.deviation)[:, None, None]
        raw = raw + torch.tensor(SMALL.mean)[:, None, None]
        mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
        deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
        states = network.vision_model((raw - mean) / deviation).pooler_output
        expected = network.visual_projection(states)
        torch.testing.assert_close(
            image(x), expected, rtol=1e-4, atol=1e-5
        )  # their scale is float32
    assert {n.split(".")[1] for n in text.state_dict()} == {"text_model", "text_projection"}
    assert {n.split(".")[1] for n in image.state_dict()} == {"vision_model", "visual_projection"}
    assert with_gradient(text.train(), ids) == set(dict(text.named_parameters()))
    assert with_gradient(image.train(), x) == set(dict(image.named_parameters()))


def test_a_classifier_of_a_pair(folders):
    """Configured as in a run: both towers are trained, or only the rest if they are frozen."""
    towers = {"name": "two-tower", "weights": str(folders / "clip")}
    for frozen in (False, True):
        chosen = {**towers, "frozen": frozen}
        config = ModelConfig(width=8, encoders={"words": chosen, "photo": chosen})
        model = build_classifier([WORDS, SMALL], 3, config, "amcb", seed=0).train()
        out = model({"words": sample(WORDS), "photo": sample(SMALL)})
        out.fused_logits.square().sum().backward()
        assert all(p.grad is not None for p in model.projections.parameters())
        reached = [p.grad is not None for p in model.encoders.parameters()]
        assert not any(reached) if frozen else all(reached)


def test_preprocessor_of_a_folder_says_how_to_standardize(folders, tmp_path):
    import shutil

    folder = tmp_path / "vit"
    shutil.copytree(folders / "vit", folder)
    assert make(f"transformers:{folder}", SMALL).scale is None
    said = {
        "image_processor_type": "ViTImageProcessor",
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    encoder = make(f"transformers:{folder}", SMALL)
    torch.testing.assert_close(encoder.scale.flatten(), torch.tensor(SMALL.deviation) / 0.25)
    torch.testing.assert_close(encoder.shift.flatten(), (torch.tensor(SMALL.mean) - 0.5) / 0.25)
    sound = Modality("s", "spectrogram", (3, 64, 64), mean=(-3.0,) * 3, deviation=(3.0,) * 3)
    torch.save(colored().state_dict(), tmp_path / "w.pth")
    assert make("audio-resnet18", sound, weights=str(tmp_path / "w.pth")).scale is None
    (folder / "preprocessor_config.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        make(f"transformers:{folder}", SMALL)


def test_random_weights_take_a_folders_configuration(folders, tmp_path):
    import shutil

    (tmp_path / "bert").mkdir()
    shutil.copy(folders / "bert" / "config.json", tmp_path / "bert")
    name = f"transformers:{tmp_path / 'bert'}"
    one, same, other = (
        make(name, WORDS, seed, weights="random").state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not all(torch.equal(one[k], other[k]) for k in one)
    assert (
        make("two-tower", SMALL, weights="random", config=str(folders / "clip")).out_features == 16
    )
    with pytest.raises(DataError, match="damaged or incomplete"):
        make(name, WORDS)


def test_state_dict_of_a_text_network(folders, tmp_path):
    state = safetensors.torch.load_file(folders / "bert" / "model.safetensors")
    torch.save(state, tmp_path / "w.pt")
    name = f"transformers:{folders / 'bert'}"
    expected = make("bert-base", WORDS, weights=str(folders / "bert")).state_dict()
    found = make(name, WORDS, weights=str(tmp_path / "w.pt")).state_dict()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    gone = {k: v for k, v in state.items() if "layer.1" not in k}
    torch.save(gone, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"the weights lack network\.encoder\.layer\.1.* more"):
        make(name, WORDS, weights=str(tmp_path / "w.pt"))
    torch.save({**state, "bert.encoder.layer.2.w": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"also .*encoder\.layer\.2\.w"):
        make(name, WORDS, weights=str(tmp_path / "w.pt"))


def test_a_folder_that_lacks_weights(folders, tmp_path):
    """Missing weights that affect the features are an error; an unused pooler may be missing."""
    import shutil

    bare = str(folders / "bert-bare")
    assert make("bert-base", WORDS, weights=bare).out_features == 32
    with pytest.raises(UsageError, match=r"the weights lack network\.pooler"):
        make("bert-base", WORDS, weights=bare, pooling="pooler")
    folder = tmp_path / "bert"
    shutil.copytree(folders / "bert", folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(DataError, match="damaged or incomplete"):
        make("bert-base", WORDS, weights=str(folder))


@pytest.mark.parametrize("name", ["resnet18", "two-tower"])
def test_copies_and_half_precision(folders, name):
    """A copy is complete and independent; autocast gives the same up to bfloat16 precision."""
    options = {"weights": str(folders / "clip")} if name == "two-tower" else {"weights": "random"}
    encoder = make(name, SMALL, **options).eval()
    x = sample(SMALL)
    out = in_float64(copy.deepcopy(encoder))(x).detach()
    twin = copy.deepcopy(encoder)
    twin.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        for p in encoder.parameters():
            p.zero_()
    torch.testing.assert_close(in_float64(copy.deepcopy(twin))(x), out)
    twin.train()(x[:1])
    assert all(m.training for m in twin.modules())
    with torch.autocast("cpu", torch.bfloat16):
        half = twin.eval()(x).float()
    assert torch.nn.functional.cosine_similarity(half, twin(x)).min() > 0.99


@pytest.mark.parametrize("owner", ["", "google-bert--"])
def test_hub_names_are_looked_up_in_the_cache_first(folders, tmp_path, monkeypatch, owner):
    import shutil

    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / f"models--{owner}bert-base-uncased"
    revision = "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    shutil.copytree(folders / "bert", repository / "snapshots" / revision)
    start = time.perf_counter()
    encoder = make("bert-base", WORDS).eval()
    assert time.perf_counter() - start < 10
    expected = make("bert-base", WORDS, weights=str(folders / "bert")).state_dict()
    torch.testing.assert_close(encoder.state_dict(), expected, rtol=0, atol=0)
    weights = repository / "snapshots" / revision / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"bert-base-uncased \(cached\): .*damaged"):
        make("bert-base", WORDS)


# Requests that cannot be met.


@pytest.mark.parametrize(
    ("name", "modality", "options"),
    [
        ("bert-base", WORDS, {}),
        ("bert-base", WORDS, {"weights": "some/where"}),
        ("transformers:some/where", WORDS, {}),
        ("two-tower", SMALL, {}),
        ("resnet101", IMAGE, {}),
        ("r2plus1d-18", VIDEO, {"weights": "KINETICS400_V1"}),
    ],
)
def test_offline_with_none_found_is_quick_and_names_the_ways(
    name, modality, options, tmp_path, monkeypatch
):
    """A proxy that refuses connections simulates a missing network, so that nothing is downloaded."""
    import huggingface_hub
    import transformers

    assert transformers.__version__
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    start = time.perf_counter()
    with pytest.raises(UsageError) as caught:
        make(name, modality, **options)
    assert time.perf_counter() - start < 10
    message = str(caught.value)
    assert "cannot be fetched" in message
    assert all(way in message for way in ("fetched", "a path on this machine", "'random'"))


def test_unreachable_after_a_wait_without_answer_is_bounded(tmp_path, monkeypatch):
    """A server that accepts the connection and never answers is abandoned after the timeout."""
    import socket

    from rlmba import hub
    from rlmba.models import weights

    for module in (hub, weights):
        monkeypatch.setattr(module, "TIMEOUT", 0.5)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{port}")
        for name, modality in (("bert-base", WORDS), ("resnet101", IMAGE)):
            start = time.perf_counter()
            with pytest.raises(UsageError, match="cannot be fetched"):
                make(name, modality)
            assert time.perf_counter() - start < 10
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize(
    ("name", "modality", "options", "message"),
    [
        (
            "resnet50",
            VIDEO,
            {},
            r"takes \['image', 'spectrogram'\], but modality 'clip' is 'video'",
        ),
        ("mc3_18", IMAGE, {}, r"takes \['video'\]"),
        ("bert-base", IMAGE, {}, r"takes \['tokens'\]"),
        ("two-tower", VIDEO, {}, r"takes \['image', 'tokens'\]"),
        ("transformers:x", SOUND, {}, r"use one of \['auto', 'audio-resnet18'"),
        ("torchvision:resnet5", IMAGE, {}, "torchvision has no network 'resnet5'"),
        ("resnet5", IMAGE, {}, r"unknown encoder 'resnet5'.*torchvision:NAME, transformers:NAME"),
        ("resnet18", IMAGE, {"weights": "V9"}, "no such name and no such file.*'IMAGENET1K_V1'"),
        ("resnet18", IMAGE, {"weights": "./w.pth"}, "does not exist"),
        ("resnet18", IMAGE, {"weights": "random", "gradient_checkpointing": True}, "no option"),
        ("resnet18", IMAGE, {"depth": 3}, r"no option 'depth': expected one of \['weights', 'fr"),
        ("resnet18", IMAGE, {"weights": "random", "frozen": 1}, "frozen: expected true or false"),
        ("s3d", VIDEO, {"weights": "random"}, r"'s3d' cannot take .* shape \[3, 4, 32, 32\]"),
        ("inception_v3", SMALL, {"weights": "random"}, r"cannot take modality 'photo'"),
        ("bert-base", WORDS, {**TINY, "width": 33}, "multiple"),
        ("bert-base", WORDS, {**TINY, "layers": 0}, "integers >= 1"),
        ("bert-base", WORDS, {"layers": 2}, "remove these options, or set weights to 'random'"),
        ("bert-base", WORDS, {**TINY, "pooling": "max"}, "pooling: expected one of"),
        (
            "bert-base",
            Modality("words", "tokens", (600,), "int64", vocabulary=99, padding=-1),
            TINY,
            "at most 512 tokens, but modality 'words' has 600",
        ),
        ("bert-base", Modality("w", "tokens", (6,), "int64"), TINY, "to state a vocabulary"),
        ("vit_b_16", Modality("p", "image", (3, 32, 48)), {"weights": "random"}, "square"),
    ],
)
def test_requests_that_cannot_be_met(name, modality, options, message):
    with pytest.raises(UsageError, match=message):
        make(name, modality, **options)


def test_networks_for_something_else(folders):
    many = Modality("words", "tokens", (12,), "int64", vocabulary=100, padding=-1)
    with pytest.raises(UsageError, match="at most 99 tokens, got 100; use the tokenizer"):
        make("bert-base", many, weights=str(folders / "bert"))
    with pytest.raises(UsageError, match="at most 99 tokens, got 100"):
        make("two-tower", many, weights=str(folders / "clip"))
    with pytest.raises(UsageError, match="takes input_ids, but modality 'photo' is 'image'"):
        make(f"transformers:{folders / 'bert'}", SMALL)
    with pytest.raises(UsageError, match="use the encoder two-tower"):
        make(f"transformers:{folders / 'clip'}", SMALL)
    with pytest.raises(UsageError, match="BertModel has no get_text_features"):
        make("two-tower", WORDS, weights=str(folders / "bert"))
    with pytest.raises(UsageError, match="no class token"):
        make(f"transformers:{folders / 'convnext'}", SMALL, pooling="cls")


def test_auto_video_is_small_and_there_without_weights():
    encoder = make("auto", VIDEO)
    assert type(encoder).__name__ == "Cnn"
    assert {"bert-base", "resnet101", "r2plus1d-18", "audio-resnet18", "two-tower"} <= set(
        encoder_names()
    )
