"""Networks in the format of sentence-transformers, compared with the library."""

from __future__ import annotations

import json

import pytest
import torch

from rlmba.errors import DataError, UsageError
from rlmba.models import build_encoder, seeded
from rlmba.models.registry import weight_files_of
from tests.helpers.backbones import WORDS, make, texts, trained, with_gradient


def folder_of(root, network, modules):
    """Write a folder with the modules after the network: (kind, config, weights or None)."""
    import transformers as t
    from safetensors.torch import save_file

    t.AutoModel.from_pretrained(network).save_pretrained(root)
    listed = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
    ]
    for i, (kind, config, weights) in enumerate(modules, start=1):
        path = f"{i}_{kind}"
        (root / path).mkdir()
        (root / path / "config.json").write_text(json.dumps(config))
        if weights:
            save_file(weights, root / path / "model.safetensors")
        listed.append({"idx": i, "name": str(i), "path": path, "type": f"library.models.{kind}"})
    (root / "modules.json").write_text(json.dumps(listed))
    return root


@pytest.fixture
def dense(tmp_path, folders):
    """A network with pooling in the old form, a dense layer and normalization."""
    with seeded(3):
        weights = {"linear.weight": torch.randn(16, 32), "linear.bias": torch.randn(16)}
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    tanh = "torch.nn.modules.activation.Tanh"
    layer = {"in_features": 32, "out_features": 16, "bias": True, "activation_function": tanh}
    modules = [("Pooling", pooling, None), ("Dense", layer, weights), ("Normalize", {}, None)]
    return folder_of(tmp_path / "st", folders / "bert-bare", modules)


def test_features_are_those_of_the_folders_modules(dense, folders):
    from safetensors.torch import load_file
    from transformers import AutoModel

    x = texts([12, 5, 9])
    there = x != -1
    network = AutoModel.from_pretrained(folders / "bert-bare").eval()
    out = network(input_ids=x.masked_fill(~there, 0), attention_mask=there.long())
    mean = [s[t].mean(0) for s, t in zip(out.last_hidden_state, there, strict=True)]
    state = load_file(dense / "2_Dense" / "model.safetensors")
    y = torch.tanh(torch.stack(mean) @ state["linear.weight"].T + state["linear.bias"])
    encoder = make(f"sentence-transformers:{dense}", WORDS).eval()
    torch.testing.assert_close(encoder(x), y / y.norm(dim=1, keepdim=True))
    assert with_gradient(encoder, x) == trained(encoder)
    assert not trained(make(f"sentence-transformers:{dense}", WORDS, frozen=True))


@pytest.mark.parametrize(
    "mode", ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
)
def test_pooling_is_the_librarys(tmp_path, folders, mode):
    library = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    config = {"embedding_dimension": 32, "pooling_mode": mode}
    folder = folder_of(tmp_path / "st", folders / "bert-bare", [("Pooling", config, None)])
    encoder = make(f"sentence-transformers:{folder}", WORDS).eval()
    x = texts([12, 5, 9])
    given = encoder.tokens(x)
    states = encoder.network(**given).last_hidden_state
    pooled = library.Pooling(32, mode)(
        {"token_embeddings": states, "attention_mask": given["attention_mask"]}
    )
    torch.testing.assert_close(encoder(x), pooled["sentence_embedding"])


def test_a_checkpoint_is_loaded_without_the_folder(dense):
    name = f"sentence-transformers:{dense}"
    first = make(name, WORDS).eval()
    dense.rename(dense.with_name("gone"))
    second = build_encoder(name, WORDS, blueprint=json.loads(json.dumps(first.blueprint())))
    second.load_state_dict(first.state_dict())
    x = texts([12, 5])
    torch.testing.assert_close(second.eval()(x), first(x), rtol=0, atol=0)


def test_folders_that_do_not_fit_are_refused(dense):
    name = f"sentence-transformers:{dense}"
    listed = json.loads((dense / "modules.json").read_text())
    listed[2]["type"] = "someone.elses.Code"
    (dense / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(
        UsageError, match=r"found \['Transformer', 'Pooling', 'Code', 'Normalize'\]"
    ):
        make(name, WORDS)
    (dense / "modules.json").write_text("[")
    with pytest.raises(DataError, match="expected JSON"):
        make(name, WORDS)
    (dense / "modules.json").unlink()
    with pytest.raises(UsageError, match=r"use transformers:"):
        make(name, WORDS)


@pytest.mark.parametrize(
    ("file", "key", "value", "match"),
    [
        ("modules.json", "path", "../elsewhere", "names of folders"),
        ("2_Dense/config.json", "in_features", None, "in_features and out_features"),
        ("1_Pooling/config.json", None, [1], "contain a JSON object"),
    ],
)
def test_damaged_settings_are_named(dense, file, key, value, match):
    path = dense / file
    found = json.loads(path.read_text())
    if key is None:
        found = value
    else:
        (found[1] if isinstance(found, list) else found)[key] = value
    path.write_text(json.dumps(found))
    with pytest.raises(DataError, match=match):
        make(f"sentence-transformers:{dense}", WORDS)


def test_its_files_are_known_with_those_of_the_modules(dense):
    name = f"sentence-transformers:{dense}"
    files = weight_files_of(name, WORDS, {})
    assert {dense / "modules.json", dense / "2_Dense" / "model.safetensors"} < set(files)
    assert weight_files_of(name, WORDS, {"weights": "random"}) is None
