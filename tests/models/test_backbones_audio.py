"""transformers networks for waveforms, compared with the library."""

from __future__ import annotations

import json

import pytest
import torch

from rlmba.data import Modality
from rlmba.errors import UsageError
from rlmba.models import build_encoder, seeded
from rlmba.models.registry import weight_files_of
from tests.helpers.backbones import make, sample, trained

SOUND = Modality("sound", "waveform", (1600,), sample_rate=16_000.0)
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (16, 16),
    "conv_kernel": (10, 3),
    "conv_stride": (5, 2),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}


@pytest.fixture(params=["Wav2Vec2", "Hubert", "WavLM"])
def folder(tmp_path, request):
    """A tiny network with its feature extractor, as the library saves them."""
    import transformers as t

    with seeded(5):
        config = getattr(t, f"{request.param}Config")(**SIZES)
        getattr(t, f"{request.param}Model")(config).save_pretrained(tmp_path / "net")
    t.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path / "net")
    return tmp_path / "net"


def test_features_are_the_librarys_mean_over_time(folder):
    import transformers as t

    x = sample(SOUND) + 3
    encoder = make(f"transformers:{folder}", SOUND).eval()
    extractor = t.AutoFeatureExtractor.from_pretrained(folder)
    given = extractor(list(x.numpy()), sampling_rate=16_000, return_tensors="pt")
    out = t.AutoModel.from_pretrained(folder).eval()(given["input_values"])
    expected = out.last_hidden_state.mean(dim=1)
    torch.testing.assert_close(encoder(x), expected, rtol=1e-4, atol=1e-5)
    assert trained(encoder)
    assert not trained(make(f"transformers:{folder}", SOUND, frozen=True))


def test_a_checkpoint_is_loaded_without_the_folder(folder):
    name = f"transformers:{folder}"
    first = make(name, SOUND).eval()
    folder.rename(folder.with_name("gone"))
    second = build_encoder(name, SOUND, blueprint=json.loads(json.dumps(first.blueprint())))
    second.load_state_dict(first.state_dict())
    x = sample(SOUND)
    torch.testing.assert_close(second.eval()(x), first(x), rtol=0, atol=0)


def test_another_sample_rate_or_network_is_refused(folder, folders):
    with pytest.raises(UsageError, match="set its sample rate to 16000"):
        make(f"transformers:{folder}", Modality("sound", "waveform", (1600,), sample_rate=8000.0))
    with pytest.raises(UsageError, match="does not take waveforms"):
        make(f"transformers:{folders / 'bert-bare'}", SOUND)


def test_its_files_are_known(folder, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    files = weight_files_of(f"transformers:{folder}", SOUND, {})
    assert {f.name for f in files} >= {"config.json", "model.safetensors"}
    assert weight_files_of("transformers:a/b", SOUND, {"weights": str(folder)}) == files
    assert weight_files_of(f"transformers:{folder}", SOUND, {"weights": "random"}) is None
    assert weight_files_of("transformers:a/b", SOUND, {}) is None
    assert weight_files_of("transformers:no/name/of/a/repository", SOUND, {}) is None
