"""What encoders of all libraries have in common, and requests that cannot be met."""

from __future__ import annotations

import copy
import time

import pytest
import torch

from rlmba.data import Modality
from rlmba.errors import UsageError
from rlmba.models import encoder_names
from tests.helpers.backbones import (
    IMAGE,
    SMALL,
    SOUND,
    TINY,
    VIDEO,
    WORDS,
    make,
    sample,
    trained,
)
from tests.helpers.float64 import in_float64


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
