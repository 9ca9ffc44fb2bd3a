"""transformers networks for waveforms, compared with the library."""

from __future__ import annotations

import json

import pytest
import torch

from rlmba.data import Modality
from rlmba.errors import DataError, UsageError
from rlmba.models import build_encoder, seeded
from rlmba.models.registry import expected_rate_of, weight_files_of
from rlmba.models.sound_inputs import sound_input
from tests.helpers.backbones import make, sample, trained, with_gradient

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


AST = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "num_mel_bins": 24,
    "max_length": 40,
}
CLAP = {
    "audio_config": {
        "spec_size": 64,
        "num_mel_bins": 16,
        "window_size": 4,
        "patch_embeds_hidden_size": 16,
        "hidden_size": 32,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "projection_dim": 12,
    },
    "text_config": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 50,
    },
    "projection_dim": 12,
}
SHORT = {"feature_size": 16, "max_length_s": 1, "sampling_rate": 48_000, "frequency_max": 14_000}


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


def sound(seconds, rate):
    return Modality("sound", "waveform", (round(seconds * rate),), sample_rate=float(rate))


def ast(folder, **settings):
    """A tiny AST, whose pretrained weights are far from zero, and the library's extractor."""
    import transformers as t

    with seeded(6):
        network = t.ASTModel(t.ASTConfig(**AST))
        for p in network.parameters():
            torch.nn.init.normal_(p, std=0.2)
    network.save_pretrained(folder)
    extractor = t.ASTFeatureExtractor(num_mel_bins=24, max_length=40, mean=-3, std=2, **settings)
    extractor.save_pretrained(folder)
    return network.eval(), extractor


def clap(folder, *, fused=False, **settings):
    """A tiny CLAP and the library's extractor."""
    import transformers as t

    config = t.ClapConfig(**CLAP)
    config.audio_config.enable_fusion = fused
    with seeded(7):
        network = t.ClapModel(config)
        norm = network.audio_model.audio_encoder.batch_norm
        torch.nn.init.normal_(norm.running_mean)
    network.save_pretrained(folder)
    how = {**SHORT, "truncation": "fusion" if fused else "rand_trunc", **settings}
    extractor = t.ClapFeatureExtractor(**how)
    extractor.save_pretrained(folder)
    return network.eval(), extractor


@pytest.mark.parametrize(
    ("seconds", "settings"),
    [(0.2, {}), (0.6, {}), (0.0251, {}), (0.2, {"do_normalize": False})],
)
def test_ast_sees_the_librarys_spectrogram(tmp_path, seconds, settings):
    network, extractor = ast(tmp_path, **settings)
    modality = sound(seconds, 16_000)
    encoder = make(f"transformers:{tmp_path}", modality, frozen=True).eval()
    x = 0.1 * sample(modality)
    given = extractor(list(x.numpy()), sampling_rate=16_000, return_tensors="pt")["input_values"]
    torch.testing.assert_close(encoder.input(x), given, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        expected = network(given).pooler_output
    torch.testing.assert_close(encoder(x), expected, rtol=1e-3, atol=1e-3)
    assert expected.std() > 0.1
    assert not trained(encoder)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    ("seconds", "padding"), [(0.3, "repeatpad"), (0.3, "repeat"), (0.3, "pad"), (1.0, "repeatpad")]
)
def test_clap_sees_the_librarys_spectrogram(tmp_path, fused, seconds, padding):
    network, extractor = clap(tmp_path, fused=fused, padding=padding)
    modality = sound(seconds, 48_000)
    encoder = make(f"transformers:{tmp_path}", modality, frozen=True).eval()
    x = 0.1 * sample(modality)
    given = extractor(list(x.numpy()), sampling_rate=48_000, return_tensors="pt")
    mel = given["input_features"]
    torch.testing.assert_close(encoder.input(x).expand_as(mel), mel, rtol=1e-3, atol=1e-2)
    with torch.no_grad():
        # The library marks a random one of these short sounds as long.
        longer = torch.zeros(len(x), 1, dtype=torch.bool)
        pooled = network.audio_model(mel, is_longer=longer).pooler_output
        expected = network.audio_projection(pooled)
        unit = network.get_audio_features(mel, is_longer=longer).pooler_output
    found = encoder(x)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(torch.nn.functional.normalize(found), unit, rtol=1e-3, atol=1e-3)
    assert not any(name.startswith("network.text") for name in encoder.state_dict())


def test_the_first_part_of_a_longer_sound_is_used(tmp_path):
    clap(tmp_path)
    name = f"transformers:{tmp_path}"
    x = sample(sound(1.5, 48_000))
    whole = make(name, sound(1.5, 48_000)).eval()(x)
    part = make(name, sound(1.0, 48_000)).eval()(x[:, :48_000])
    torch.testing.assert_close(whole, part, rtol=0, atol=0)


def checkpointed(name, modality, folder):
    """A network of the folder, and another that is loaded from a checkpoint, without the folder."""
    first = make(name, modality).eval()
    folder.rename(folder.with_name("gone"))
    second = build_encoder(name, modality, blueprint=json.loads(json.dumps(first.blueprint())))
    second.load_state_dict(first.state_dict())
    x = sample(modality)
    torch.testing.assert_close(second.eval()(x), first(x), rtol=0, atol=0)
    return first


def test_a_checkpoint_is_loaded_without_the_folder(folder):
    first = checkpointed(f"transformers:{folder}", SOUND, folder)
    assert trained(first)
    earlier = {k: v for k, v in first.blueprint().items() if k != "extractor"}
    for standardized in (True, False):
        old = build_encoder(
            "transformers:a", SOUND, blueprint={**earlier, "standardized": standardized}
        )
        assert old.input.standardized is standardized


@pytest.mark.parametrize(("network", "rate"), [(ast, 16_000), (clap, 48_000)])
def test_networks_of_spectrograms_learn_and_load_from_a_checkpoint(tmp_path, network, rate):
    network(tmp_path / "net")
    first = checkpointed(f"transformers:{tmp_path / 'net'}", sound(0.3, rate), tmp_path / "net")
    with_gradient(first.train(), sample(sound(0.3, rate)))
    assert trained(first)


def test_another_sample_rate_or_network_is_refused(folder, folders, tmp_path):
    with pytest.raises(
        UsageError, match=r"set its sample rate to 16000, for a table with .*=16000"
    ):
        make(f"transformers:{folder}", Modality("sound", "waveform", (1600,), sample_rate=8000.0))
    with pytest.raises(UsageError, match="does not take waveforms"):
        make(f"transformers:{folders / 'bert-bare'}", SOUND)
    clap(tmp_path / "clap")
    with pytest.raises(UsageError, match="expected modality 'sound' to have 48000 samples per sec"):
        make(f"transformers:{tmp_path / 'clap'}", SOUND)
    ast(tmp_path / "ast")
    with pytest.raises(UsageError, match=r"shape \[300\]: expected 400 samples or more"):
        make(f"transformers:{tmp_path / 'ast'}", sound(300 / 16_000, 16_000))


def test_the_expected_rate_is_known_without_the_weights(folder, tmp_path):
    clap(tmp_path / "clap")
    ast(tmp_path / "ast", sampling_rate=8_000)
    (tmp_path / "ast" / "model.safetensors").unlink()
    expected = {folder: 16_000, tmp_path / "clap": 48_000, tmp_path / "ast": 8_000}
    for path, rate in expected.items():
        assert expected_rate_of(f"transformers:{path}", {}) == rate
    assert expected_rate_of("transformers:a/b", {"weights": str(tmp_path / "clap")}) == 48_000
    random = {"weights": "random"}
    assert expected_rate_of(f"transformers:{tmp_path / 'clap'}", random) == 48_000
    assert expected_rate_of("soundnet", {}) == 22_050
    assert expected_rate_of("spectrogram-cnn", {}) is None


@pytest.mark.parametrize(("network", "bands"), [(ast, 24), (clap, 16)])
def test_settings_of_a_network_without_a_file_are_the_librarys(tmp_path, network, bands):
    network, extractor = network(tmp_path)
    made = sound_input(network.config, {}, "folder")
    assert made.rate == extractor.sampling_rate
    assert made.filters.shape[1] == bands


@pytest.mark.parametrize(
    ("network", "key", "value"),
    [
        (ast, "mean", "loud"),
        (ast, "sampling_rate", 0),
        (clap, "hop_length", "x"),
        (clap, "sampling_rate", None),
    ],
)
def test_unusable_settings_are_an_error(tmp_path, network, key, value):
    network(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(DataError, match="feature extractor's settings for"):
        make(f"transformers:{tmp_path}", sound(0.3, 16_000))


def test_its_files_are_known(folder, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    files = weight_files_of(f"transformers:{folder}", SOUND, {})
    assert {f.name for f in files} >= {"config.json", "model.safetensors"}
    assert weight_files_of("transformers:a/b", SOUND, {"weights": str(folder)}) == files
    assert weight_files_of(f"transformers:{folder}", SOUND, {"weights": "random"}) is None
    assert weight_files_of("transformers:a/b", SOUND, {}) is None
    assert weight_files_of("transformers:no/name/of/a/repository", SOUND, {}) is None
