"""Encoders rebuilt for a checkpoint's weights after everything they started from is gone."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel, T5Config, T5Model

from rlmba.data import Modality
from rlmba.errors import UsageError
from rlmba.models import build_encoder

TOKENS = Modality("text", "tokens", (7,), "int64", vocabulary=30)
IMAGE = Modality("image", "image", (3, 32, 32), mean=(0.4,) * 3, deviation=(0.2,) * 3)

_SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}


def bert(folder):
    BertModel(BertConfig(vocab_size=40, **_SMALL)).save_pretrained(folder)
    return folder


def t5(folder):
    config = T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=8, num_layers=1, num_heads=2)
    T5Model(config).save_pretrained(folder)
    return folder


def clip(folder):
    config = CLIPConfig(
        text_config={**_SMALL, "vocab_size": 40, "max_position_embeddings": 9, "eos_token_id": 1},
        vision_config={**_SMALL, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    return folder


def resnet(folder):
    from torchvision.models import resnet18

    folder.mkdir()
    torch.save(resnet18().state_dict(), folder / "weights.pth")
    return folder / "weights.pth"


CASES = {
    "bert-base": (bert, TOKENS, lambda path: ("bert-base", {"weights": str(path)})),
    "pooled": (bert, TOKENS, lambda path: (f"transformers:{path}", {"pooling": "pooler"})),
    "random": (bert, TOKENS, lambda path: (f"transformers:{path}", {"weights": "random"})),
    "encoder of two": (t5, TOKENS, lambda path: (f"transformers:{path}", {"pooling": "mean"})),
    "text tower": (clip, TOKENS, lambda path: ("two-tower", {"weights": str(path)})),
    "image tower": (clip, IMAGE, lambda path: ("two-tower", {"weights": str(path)})),
    "resnet18": (resnet, IMAGE, lambda path: ("resnet18", {"weights": str(path)})),
    "frozen": (resnet, IMAGE, lambda path: ("resnet18", {"weights": str(path), "frozen": True})),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_built_again_without_what_it_started_from(case, tmp_path):
    make, modality, named = case
    with torch.random.fork_rng():
        torch.manual_seed(0)
        path = make(tmp_path / "weights")
        name, options = named(path)
        first = build_encoder(name, modality, options).eval()
        x = torch.randn(3, *modality.shape)
        if modality.kind == "tokens":
            x = torch.randint(1, 30, (3, *modality.shape))
    blueprint = json.loads(json.dumps(first.blueprint()))
    shutil.rmtree(tmp_path / "weights")
    again = build_encoder(name, modality, options, blueprint=blueprint).eval()
    assert [p.requires_grad for p in again.parameters()] == [
        p.requires_grad for p in first.parameters()
    ]
    with torch.no_grad():
        wanted = first(x)
        assert not torch.equal(again(x), wanted), "its weights are random until they are loaded"
        again.load_state_dict(first.state_dict())
        torch.testing.assert_close(again(x), wanted, rtol=0, atol=0)


def test_standardization_that_weights_expect_is_kept(tmp_path):
    options = {"weights": str(resnet(tmp_path / "weights"))}
    first = build_encoder("resnet18", IMAGE, options)
    assert first.scale is not None
    again = build_encoder("resnet18", IMAGE, options, blueprint=first.blueprint())
    assert torch.equal(again.scale, first.scale)
    assert torch.equal(again.shift, first.shift)


def test_a_configuration_of_no_known_kind(tmp_path):
    name = f"transformers:{tmp_path}"
    with pytest.raises(UsageError, match="this version of transformers"):
        build_encoder(name, TOKENS, blueprint={"transformers": {"model_type": "no such"}})


def test_no_kernels_are_fetched_that_a_configuration_names(tmp_path):
    """``attn_implementation`` may name a repository, whose code transformers would run."""
    path = bert(tmp_path / "weights")
    file = path / "config.json"
    named = {**json.loads(file.read_text()), "attn_implementation": "somebody/kernels"}
    file.write_text(json.dumps(named))
    name = f"transformers:{path}"
    first = build_encoder(name, TOKENS)
    blueprint = {"transformers": {**first.blueprint()["transformers"], **named}}
    again = build_encoder(name, TOKENS, blueprint=blueprint)
    for encoder in (first, again):
        (network,) = (m for m in encoder.modules() if isinstance(m, BertModel))
        assert network.config._attn_implementation in ("sdpa", "eager")


def test_without_a_blueprint_weights_are_looked_for(tmp_path):
    path = resnet(tmp_path / "weights")
    blueprint = build_encoder("resnet18", IMAGE, {"weights": str(path)}).blueprint()
    path.unlink()
    build_encoder("resnet18", IMAGE, {"weights": str(path)}, blueprint=blueprint)
    with pytest.raises(UsageError, match="does not exist"):
        build_encoder("resnet18", IMAGE, {"weights": str(path)})
