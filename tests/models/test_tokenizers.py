"""Tokenizers that belong to encoders: open_clip's own, and which tokenizer an encoder needs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rlmba import packaged_weights
from rlmba.cli import main
from rlmba.config import load_config
from rlmba.data import Modality
from rlmba.data.media.tokens import length_of, load_tokenizer, same_ids, tokenize, vocabulary_of
from rlmba.errors import UsageError
from rlmba.learner.settings import load_source
from rlmba.models import build_encoder, seeded
from rlmba.models.registry import tokenizer_of
from tests.helpers.backbones import make

TEXTS = ["a dog &amp; a CAT, in the park!", "", "dog " * 30]
SPECIAL = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "a", "dog", "cat", "in", "the", "park", "&", ",", "!"]
VISION = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16}
SMALL = {"width": 32, "heads": 2, "layers": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a tokenizer and the configuration of a network whose padding is not 0."""
    from transformers import BertTokenizerFast, RobertaConfig

    path = tmp_path_factory.mktemp("text")
    ids = {token: k for k, token in enumerate(WORDS)}
    BertTokenizerFast(vocab=ids, do_lower_case=True).save_pretrained(path)
    RobertaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=1,
    ).save_pretrained(path)
    return str(path)


@pytest.fixture
def open_clip(monkeypatch, folder):
    """The library, with three tiny networks: CLIP's, SigLIP's, and one with a text tower of transformers."""
    library = pytest.importorskip("open_clip")
    base = {"embed_dim": 16, "vision_cfg": VISION}
    siglip = {
        "hf_tokenizer_name": folder,
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "context_length": 12,
        "vocab_size": len(WORDS),
        "no_causal_mask": True,
        "pool_type": "last",
        **SMALL,
    }
    tower = {"hf_model_name": folder, "hf_tokenizer_name": folder, "hf_proj_type": "mlp"}
    configs = {
        "tiny-clip": {**base, "text_cfg": {"context_length": 20, "vocab_size": 49408, **SMALL}},
        "tiny-last": {**base, "custom_text": True, "text_cfg": siglip},
        "tiny-tower": {
            **base,
            "custom_text": True,
            "text_cfg": {**tower, "hf_pooler_type": "mean_pooler", "context_length": 24},
        },
    }
    monkeypatch.setattr(library.factory, "_MODEL_CONFIGS", configs)
    load_tokenizers_anew()
    return library


def load_tokenizers_anew():
    from rlmba.data.media.tokens import cached_tokenizer

    cached_tokenizer.cache_clear()


def modality_of(name):
    tokenizer = load_tokenizer(name)
    length = length_of(tokenizer)
    return Modality(
        "text",
        "tokens",
        (length,),
        "int64",
        vocabulary=vocabulary_of(tokenizer),
        padding=-1,
        tokenizer=name,
    )


@pytest.mark.parametrize(
    ("name", "length"), [("tiny-clip", 20), ("tiny-last", 12), ("tiny-tower", 24)]
)
def test_features_are_those_of_open_clip(open_clip, tmp_path, name, length):
    with seeded(4):
        network = open_clip.create_model(name, load_weights=False, pretrained_text=False).eval()
    torch.save(network.state_dict(), tmp_path / "w.pt")
    theirs = open_clip.get_tokenizer(name)(TEXTS)
    ids = tokenize(load_tokenizer(f"open_clip:{name}/tag"), TEXTS, length)
    np.testing.assert_array_equal(ids, theirs.numpy())
    modality = modality_of(f"open_clip:{name}")
    assert modality.shape == (length,)
    encoder = make(f"open_clip:{name}", modality, weights=str(tmp_path / "w.pt")).eval()
    with torch.no_grad():
        found, expected = encoder(torch.from_numpy(ids).long()), network.encode_text(theirs)
    torch.testing.assert_close(found, expected)
    assert len(found.unique(dim=0)) == len(TEXTS)


@pytest.mark.parametrize(
    ("name", "options", "tokenizer"),
    [
        ("all-minilm-l6-v2", {}, "all-minilm-l6-v2"),
        ("wordllama", {}, "wordllama"),
        ("open_clip:ViT-B-32/openai", {}, "open_clip:ViT-B-32"),
        ("bert-base", {}, "bert-base-uncased"),
        ("bert-base", {"weights": "random", "layers": 1}, None),
        ("bert-base", {"weights": "some/bert"}, "some/bert"),
        ("bert-base", {"weights": __file__}, "bert-base-uncased"),
        ("transformers:some/name", {}, "some/name"),
        ("transformers:some/name", {"weights": "other/name"}, "other/name"),
        ("transformers:some/name", {"weights": __file__}, "some/name"),
        ("sentence-transformers:LaBSE", {}, "sentence-transformers/LaBSE"),
        ("two-tower", {}, "openai/clip-vit-base-patch32"),
        ("two-tower", {"weights": "random"}, None),
        ("ngrams", {}, None),
        ("auto", {}, None),
        ("timm:resnet18", {}, None),
        ("no-such-encoder", {}, None),
        ("wordllama", {"strange": 1}, "wordllama"),
    ],
)
def test_the_tokenizer_of_an_encoder(name, options, tokenizer):
    assert tokenizer_of(name, options) == tokenizer


def test_tokenizers_are_compared_by_what_they_do(open_clip, folder, tmp_path):
    from transformers import BertTokenizerFast

    ids = {token: k for k, token in enumerate(WORDS)}
    BertTokenizerFast(vocab=ids, do_lower_case=True).save_pretrained(tmp_path / "same")
    BertTokenizerFast(vocab=ids, do_lower_case=False).save_pretrained(tmp_path / "cased")
    other = {token: k for k, token in enumerate([*SPECIAL, *sorted(WORDS[5:])])}
    BertTokenizerFast(vocab=other, do_lower_case=True).save_pretrained(tmp_path / "other")
    assert same_ids(str(tmp_path / "same"), folder)
    assert not same_ids(str(tmp_path / "other"), folder)
    assert not same_ids("words", folder)
    assert not same_ids(folder, "characters")
    assert same_ids(folder, "neither/cached nor valid")
    # Without the padding of the network, its last position has another token.
    assert not same_ids(folder, "open_clip:tiny-last")


def texts_in(tmp_path):
    lines = [f"s{i},{['a dog in the park', 'the cat'][i % 2]} {i},{'ab'[i % 2]}" for i in range(24)]
    (tmp_path / "pool.csv").write_text("\n".join(["id,text,label", *lines]) + "\n")
    return tmp_path / "pool.csv"


@pytest.mark.parametrize("weights", ["random", "pretrained"])
def test_a_table_gets_the_tokenizer_of_its_encoder(open_clip, tmp_path, folder, weights):
    encoder = {"name": f"transformers:{folder}", "weights": weights}
    if weights == "pretrained":
        encoder = {"name": "open_clip:tiny-clip", "weights": "random"}
    settings = {"dataset": "manifest", "data": texts_in(tmp_path), "model.encoders.text": encoder}
    data = load_source(load_config(overrides=settings))
    (text,) = data.modalities
    if weights == "random":
        assert data.settled["tokenizer"] == text.tokenizer == "words"
        return
    assert data.settled["tokenizer"] == text.tokenizer == "open_clip:tiny-clip"
    assert data.settled["tokens"] == text.shape[0] == 20
    theirs = open_clip.get_tokenizer("tiny-clip")([data.shown(0)["text"]])
    ids = data.batch(np.arange(1), train=False, generator=None).inputs["text"]
    torch.testing.assert_close(ids, theirs)
    with pytest.raises(UsageError, match="makes 20 tokens of every text, got 16; omit"):
        load_source(load_config(overrides={**settings, "dataset_options.tokens": 16}))


@pytest.mark.parametrize("command", ["init", "run"])
def test_another_tokenizer_is_refused_before_any_work(open_clip, tmp_path, capsys, command):
    data = texts_in(tmp_path)
    encoder = "model.encoders.text={name: open_clip:tiny-clip, weights: random}"
    sets = ["--set", encoder, "--set", "dataset_options.tokenizer=words", "--set", "device=cpu"]
    target = tmp_path / "out"
    where = (
        ["init", str(target), "--manifest", str(data)]
        if command == "init"
        else ["run", "--dataset", "manifest", "--data", str(data), "--output", str(target)]
    )
    assert main([*where, *sets]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "expected texts tokenized with 'open_clip:tiny-clip', got the tokenizer 'words'" in said
    assert "set dataset_options.tokenizer to 'open_clip:tiny-clip'" in said
    assert not (target / "run.json").exists()


@pytest.mark.parametrize("chosen", [False, True])
def test_init_writes_the_tokenizer(open_clip, tmp_path, chosen):
    """That of an encoder that is given, and of the one that it chooses."""
    import yaml

    name = "all-minilm-l6-v2" if chosen else "open_clip:tiny-clip"
    if chosen and packaged_weights.find(name) is None:
        pytest.skip(f"the package with {name} is not installed")
    target = tmp_path / "p"
    given = ["--manifest", str(texts_in(tmp_path))]
    if not chosen:
        given += ["--set", f"model.encoders.text={{name: {name}, weights: random}}"]
    assert main(["init", str(target), *given]) == 0
    written = yaml.safe_load((target / "config.yaml").read_text())
    assert written["model"]["encoders"]["text"]["name"] == name
    assert written["dataset_options"]["tokenizer"] == name
    assert written["dataset_options"]["tokens"] == (8 if chosen else 20)


@pytest.mark.parametrize("name", ["all-minilm-l6-v2", "wordllama"])
def test_a_packaged_encoder_takes_its_own_tokens_alone(name):
    if packaged_weights.find(name) is None:
        pytest.skip(f"the package with {name} is not installed")
    own = load_tokenizer(name)
    modality = Modality("text", "tokens", (8,), "int64", vocabulary=vocabulary_of(own), padding=-1)
    build_encoder(name, replace(modality, tokenizer=name))
    build_encoder(name, modality)
    for other in ("words", "wordllama" if name != "wordllama" else "all-minilm-l6-v2"):
        strange = replace(modality, tokenizer=other, vocabulary=1000)
        with pytest.raises(UsageError, match=f"set dataset_options.tokenizer to '{name}'"):
            build_encoder(name, strange)


def test_unknown_networks_of_open_clip(open_clip):
    with pytest.raises(UsageError, match="no network 'tinyclip'; did you mean tiny-clip"):
        load_tokenizer("open_clip:tinyclip")
    config = {"text_cfg": {"hf_tokenizer_name": "/no/such/folder"}}
    open_clip.factory._MODEL_CONFIGS["lost"] = {**config, "embed_dim": 8, "vision_cfg": VISION}
    with pytest.raises(UsageError, match="no tokenizer was found under the name"):
        load_tokenizer("open_clip:lost")
