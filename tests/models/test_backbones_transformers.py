"""Encoders that wrap networks of transformers, in folders of tiny models with random weights."""

from __future__ import annotations

import json
import time

import pytest
import safetensors.torch
import torch
from torch import nn

from rlmba.config import ModelConfig
from rlmba.data import Modality
from rlmba.errors import DataError, UsageError
from rlmba.models import build_classifier
from tests.helpers.backbones import (
    SMALL,
    TINY,
    WORDS,
    colored,
    make,
    sample,
    texts,
    trained,
    with_gradient,
)
from tests.helpers.float64 import in_float64


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
