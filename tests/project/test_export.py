"""`rlmba export`: a trained network in a folder of its own, and as ONNX."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPConfig
from typer.testing import CliRunner

from rlmba.cli.app import application
from rlmba.config import EvidentialConfig, ModelConfig, RunConfig
from rlmba.data import Modality
from rlmba.errors import UsageError
from rlmba.learner import Trained, run
from rlmba.models import Encoder, build_classifier
from rlmba.models.registry import _REGISTRY, register_encoder
from rlmba.project import graph as graph_module
from rlmba.project.export import export
from rlmba.project.graph import ExportError, NetworkGraph, example_inputs, write_onnx
from rlmba.project.predict import predict_file
from rlmba.training import head_log_probs
from rlmba.types import PoolOutputs

FACTOR = 16
"""How many times farther from the results in float64 ONNX Runtime may be than torch, both in float32."""

COARSE = 1e-2
"""Far above what rounding can do to outputs of size about 2, and far below what a wrong graph does."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of two modalities, one of which some samples lack."""
    root = tmp_path_factory.mktemp("export")
    rng = np.random.default_rng(3)
    y = np.arange(90) % 3
    present = np.ones((90, 2), np.bool_)
    present[::7, 1] = False
    np.savez(
        root / "made.npz",
        sound=np.eye(3)[y] * 2 + rng.normal(size=(90, 3)),
        motion=rng.normal(size=(90, 8, 4)).astype(np.float32) + y[:, None, None],
        y=y,
        split=np.arange(90) >= 60,
        present=present,
    )
    settings = {
        "dataset": "features",
        "data": root / "made.npz",
        "rounds": 0,
        "epochs": 2,
        "model": {"width": 12},
        "predictor": "pooled",
        "device": "cpu",
    }
    return run(RunConfig.model_validate(settings), root / "run").path


@pytest.fixture(scope="module")
def exported(folder):
    return export(folder, folder.parent / "net", onnx=True)


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported.path, tmp_path / "net")


def test_what_is_exported_predicts_as_the_run_does(folder, tmp_path):
    done = export(folder, tmp_path / "net")
    assert sorted(p.name for p in done.path.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    data = folder.parent / "made.npz"
    predict_file(folder, tmp_path / "a.csv", data=data)
    predict_file(done.path, tmp_path / "b.csv", data=data)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_the_configuration_says_how_inputs_are_prepared(folder, tmp_path):
    """From stored values to the network's input with nothing but config.json."""
    config = json.loads((export(folder, tmp_path / "net").path / "config.json").read_text())
    said = config["inputs"]["sound"]
    values = np.load(folder.parent / "made.npz")["sound"]
    train = values[:60]
    assert said["shape"] == [3]
    assert said["dtype"] == "float32"
    assert said["mean"] == pytest.approx(train.mean(axis=0).tolist(), abs=1e-6)
    assert said["deviation"] == pytest.approx(train.std(axis=0).tolist(), abs=1e-6)
    assert config["classes"] == ["0", "1", "2"]
    assert set(config["temperatures"]) == {"mm", "sound", "motion"}


@pytest.mark.slow
def test_the_readme_runs(exported):
    text = (exported.path / "README.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert len(snippets) == 2
    for snippet in snippets:
        ran = subprocess.run(
            [sys.executable, "-c", snippet],
            cwd=exported.path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert re.fullmatch(r"\['[012]'\] \[0\.\d+\]|\(1, 3\)", ran.stdout.strip())


def test_nothing_else_is_replaced(folder, copy):
    out = copy
    assert "onnx" in json.loads((out / "config.json").read_text())
    with pytest.raises(UsageError, match="--force"):
        export(folder, out)
    export(folder, out, overwrite=True)
    assert not (out / "model.onnx").exists(), "a graph of other weights"
    assert "onnx" not in json.loads((out / "config.json").read_text())
    (out / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match=r"other files \(mine\.txt\)"):
        export(folder, out, overwrite=True)
    with pytest.raises(UsageError, match="other files"):
        export(folder, folder, overwrite=True)
    with pytest.raises(UsageError, match="is a file"):
        export(folder, out / "mine.txt")


def test_an_exported_network_is_exported_again(folder, exported, tmp_path):
    first = export(folder, tmp_path / "first").path
    again = export(exported.path, tmp_path / "again").path
    assert (first / "config.json").read_bytes() == (again / "config.json").read_bytes()
    assert_same_weights(first, again)
    assert_same_weights(first, exported.path)


def assert_same_weights(a, b):
    one, other = (load_file(f / "model.safetensors") for f in (a, b))
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_command(folder, tmp_path):
    arguments = ["export", str(folder), "--out", str(tmp_path / "net")]
    done = CliRunner().invoke(application(), arguments)
    assert done.exit_code == 0, done.output
    assert "the network of round 0, 6 labels, 3 classes" in done.output


def test_what_it_says_of_the_graph(exported):
    assert exported.difference < COARSE
    assert "differ from torch's by" in exported.lines()[1]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    small["intermediate_size"] = 8
    config = CLIPConfig(
        text_config={
            **small,
            "vocab_size": 40,
            "max_position_embeddings": 9,
            "bos_token_id": 0,
            "eos_token_id": 1,
        },
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    folder = tmp_path_factory.mktemp("clip")
    config.save_pretrained(folder)
    return folder


TEXT = Modality("a", "tokens", (9,), "int64", vocabulary=40)
PHOTO = Modality("a", "image", (3, 64, 64), mean=(0.4,) * 3, deviation=(0.2,) * 3)
OTHER = Modality("b", "features", (5,))
RANDOM = {"weights": "random"}
BERT = {"name": "bert-base", **RANDOM, "layers": 2, "width": 32, "heads": 2}

FAMILIES = {
    "mlp": (Modality("a", "features", (12,)), {"name": "mlp", "hidden": [8]}),
    "cnn": (Modality("a", "image", (3, 20, 18)), {}),
    "cnn of videos": (Modality("a", "video", (3, 4, 12, 10)), {"name": "cnn"}),
    "cnn of spectrograms": (Modality("a", "spectrogram", (1, 20, 18)), {"name": "cnn"}),
    "sequence-cnn": (Modality("a", "sequence", (20, 6)), {}),
    "spectrogram-cnn": (Modality("a", "waveform", (1200,), sample_rate=8000.0), {}),
    "text-transformer": (TEXT, {}),
    "bert": (TEXT, BERT),
    "bert, mean": (TEXT, {**BERT, "pooling": "mean"}),
    "resnet18": (PHOTO, {"name": "resnet18", **RANDOM}),
    "r2plus1d-18": (Modality("a", "video", (3, 2, 16, 16)), {"name": "r2plus1d-18"}),
    "ngrams": (TEXT, {"name": "ngrams"}),
    "image-statistics": (PHOTO, {"name": "image-statistics"}),
    "sound-statistics": (Modality("a", "spectrogram", (1, 20, 18)), {"name": "sound-statistics"}),
    "timm": (PHOTO, {"name": "timm:test_vit", **RANDOM}),
    "text tower": (TEXT, "clip"),
    "image tower": (Modality("a", "image", (3, 32, 32)), "clip"),
}
PAIRS = [
    ("mlp", "cnn"),
    ("cnn of videos", "cnn of spectrograms"),
    ("sequence-cnn", "text-transformer"),
    ("bert", "resnet18"),
    ("bert, mean", "spectrogram-cnn"),
    ("r2plus1d-18", "mlp"),
    ("ngrams", "image-statistics"),
    ("sound-statistics", "timm"),
    ("text tower", "image tower"),
]
"""Two in a network: an export takes seconds, most of which do not depend on what is in it."""


def made(modalities, encoders, *, fusion="amcb", predictor="pooled", evidential=None):
    """A network of random weights, as if a run had trained it."""
    config = ModelConfig.model_validate({"width": 16, "encoders": encoders})
    model = build_classifier(modalities, 4, config, fusion, seed=0, evidential=evidential).eval()
    model.set_fusion_weights([0.3, 0.7])
    return Trained(
        model=model,
        classes=tuple("wxyz"),
        modalities=tuple(modalities),
        temperatures=np.array([0.7, 1.9]),
        fused_temperature=1.3,
        weights=np.array([0.4, 0.6]),
        predictor=predictor,
        config=RunConfig.model_validate({"model": config.model_dump()}),
        reading={},
        dataset="made",
        round=0,
        labels=1,
        document={},
    )


def worst_factor(trained, path):
    """Over batches of 1 and 5, with and without absent modalities and padded texts; see FACTOR."""
    session = onnxruntime.InferenceSession(str(path))
    graph = NetworkGraph(trained).eval()
    exactly = deepcopy(graph).double()
    assert [o.name for o in session.get_outputs()] == graph.outputs
    worst = 0.0
    for n in (1, 5):
        for absent in (False, True):
            inputs = example_inputs(trained, n, torch.Generator().manual_seed(10 + n))
            for m, x in zip(trained.modalities, inputs, strict=True):
                if m.kind == "tokens":
                    x[-1, 4:] = m.padding
            present = torch.ones((n, 2), dtype=torch.bool)
            if absent:
                present[0, 0] = False
                present[-1, 1] = n == 1
            with torch.no_grad():
                plain = graph(inputs, present)
                wide = [x.double() if x.is_floating_point() else x for x in inputs]
                exact = exactly(wide, present)
            feeds = {m.name: x.numpy() for m, x in zip(trained.modalities, inputs, strict=True)}
            got = session.run(None, {**feeds, "present": present.numpy()})
            for ours, theirs, e in zip(got, plain, exact, strict=True):
                assert ours.shape == tuple(e.shape)
                assert np.isfinite(ours).all()
                worst = max(worst, factor(ours, theirs, e.numpy()))
            np.testing.assert_allclose(got[0].sum(axis=1), 1, rtol=1e-6)
    return worst


def factor(ours, plain, exact):
    """The largest error of one float32 array over that of another; a few units of rounding are free."""
    free = 8 * np.finfo(np.float32).eps * np.abs(exact).max()
    ours, plain = (np.abs(np.asarray(x, dtype=np.float64) - exact).max() for x in (ours, plain))
    return ours / max(plain, free)


def test_every_family_is_in_a_pair():
    assert {name for pair in PAIRS for name in pair} == set(FAMILIES)


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_every_family_of_encoders(pair, clip, tmp_path):
    modalities, encoders = [], {}
    for name, family in zip("ab", pair, strict=True):
        modality, encoder = FAMILIES[family]
        modalities.append(replace(modality, name=name))
        encoders[name] = encoder
        if encoder == "clip":
            encoders[name] = {"name": "two-tower", **RANDOM, "config": str(clip)}
    trained = made(modalities, encoders)
    said = write_onnx(trained, tmp_path / "model.onnx")
    print(f"largest difference: {said:.2e}")  # noqa: T201 - seen with -rP; docs/use.md has it
    assert worst_factor(trained, tmp_path / "model.onnx") < FACTOR
    assert said < COARSE
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_concatenation_and_the_fused_predictor(tmp_path):
    modalities = [Modality("a", "features", (6,)), OTHER]
    trained = made(modalities, {}, fusion="concat", predictor="fused")
    write_onnx(trained, tmp_path / "model.onnx")
    assert worst_factor(trained, tmp_path / "model.onnx") < FACTOR


@pytest.mark.parametrize("fused_head", [True, False])
def test_trained_evidence_in_a_graph(fused_head, tmp_path):
    """The pooled predictor sums the logarithms of expected probabilities, without temperatures."""
    modalities = [Modality("a", "features", (6,)), OTHER]
    evidential = EvidentialConfig(fused_head=fused_head)
    trained = made(modalities, {}, evidential=evidential)
    trained = replace(trained, temperatures=np.ones(2), fused_temperature=1.0)
    inputs = example_inputs(trained, 5, torch.Generator().manual_seed(1))
    present = torch.ones((5, 2), dtype=torch.bool)
    present[0, 1] = False
    with torch.no_grad():
        probabilities, fused, *logits, features = NetworkGraph(trained)(inputs, present)
    ours = PoolOutputs(
        ids=np.arange(5).astype(str),
        features=dict.fromkeys("ab", features.numpy()),
        logits={m: z.numpy() for m, z in zip("ab", logits, strict=True)},
        fused_features=features.numpy(),
        fused_logits=fused.numpy(),
        present=present.numpy(),
        evidence="exp",
    )
    expected = np.exp(head_log_probs(ours, predictor="pooled")["mm"])
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)
    write_onnx(trained, tmp_path / "model.onnx")
    assert worst_factor(trained, tmp_path / "model.onnx") < FACTOR


def test_probabilities_are_those_of_predict(folder, exported):
    """The graph on prepared inputs and `rlmba predict` on the file give the same numbers."""
    from rlmba.project.predict import predictions, read_new

    trained = Trained.load(folder)
    dataset = read_new(trained, data=folder.parent / "made.npz")
    (rows,) = predictions(trained, dataset, every_class=True)
    batch = dataset.batch(np.arange(90), train=False, generator=None)
    feeds = {m: x.numpy() for m, x in batch.inputs.items()}
    session = onnxruntime.InferenceSession(str(exported.path / "model.onnx"))
    got = session.run(["probabilities"], {**feeds, "present": batch.present.numpy()})[0]
    wanted = np.array([rows[f"p_{c}"] for c in trained.classes]).T
    exactly = NetworkGraph(trained).double()
    with torch.no_grad():
        inputs = [batch.inputs[m].double() for m in trained.model.names]
        exact = exactly(inputs, batch.present)[0].numpy()
    assert factor(got, wanted, exact) < FACTOR
    assert factor(wanted, got, exact) < FACTOR


@pytest.mark.slow
def test_weights_too_large_for_one_file_lie_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(graph_module, "_LIMIT", 1)
    trained = made([Modality("a", "features", (60,)), OTHER], {})
    write_onnx(trained, tmp_path / "model.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    moved = shutil.move(tmp_path, tmp_path.with_name(f"{tmp_path.name}-moved"))
    assert worst_factor(trained, f"{moved}/model.onnx") < FACTOR


class _Odd(Encoder):
    """One that no graph can hold: what it computes depends on the values."""

    def __init__(self, modality, *, how="values"):
        super().__init__()
        self.layer = nn.Linear(modality.shape[0], 3)
        self.how = how
        self.out_features = 3

    def forward(self, x):
        y = self.layer(x)
        if self.how == "values":
            return y if x.sum().item() > 0 else -y
        return y.view(len(x), 3)


@pytest.fixture
def odd():
    register_encoder("odd", kinds=["features"])(_Odd)
    yield
    del _REGISTRY["odd"]


@pytest.mark.slow
def test_an_encoder_that_cannot_be_exported_is_named(odd, tmp_path):
    trained = made([Modality("a", "features", (6,)), OTHER], {"b": {"name": "odd"}})
    with pytest.raises(ExportError, match=r"encoder of 'b' \(odd, _Odd\) cannot be exported"):
        write_onnx(trained, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_batch_of_one_size_is_no_batch(odd, tmp_path):
    encoder = {"name": "odd", "how": "length"}
    trained = made([Modality("a", "features", (6,)), OTHER], {"b": encoder})
    with pytest.raises(ExportError, match=r"'b'.*only takes batches of 3"):
        write_onnx(trained, tmp_path / "model.onnx")


def test_all_else_is_written_where_the_graph_cannot_be(folder, tmp_path, monkeypatch):
    from rlmba.project import export as module

    def refuse(trained, path):
        raise ExportError("ONNX: the encoder of 'motion' cannot be exported")

    monkeypatch.setattr(module, "write_onnx", refuse)
    out = tmp_path / "net"
    with pytest.raises(
        ExportError, match=rf"'motion' cannot be exported\. All other files are in {out}"
    ):
        export(folder, out, onnx=True)
    assert sorted(p.name for p in out.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert Trained.load(out).classes == ("0", "1", "2")


@pytest.mark.slow
def test_a_graph_that_computes_something_else_is_refused(tmp_path, monkeypatch):
    trained = made([Modality("a", "features", (6,)), OTHER], {})
    original = graph_module._save

    def then_change(program, path, *, apart):
        original(program, path, apart=apart)
        with torch.no_grad():
            trained.model.fused_head.bias += 1.0

    monkeypatch.setattr(graph_module, "_save", then_change)
    with pytest.raises(ExportError, match="off by"):
        write_onnx(trained, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["present", "probabilities", "logits"])
def test_names_that_the_graph_needs(name, tmp_path):
    trained = made([Modality(name, "features", (6,)), OTHER], {})
    with pytest.raises(UsageError, match=name):
        write_onnx(trained, tmp_path / "model.onnx")


def test_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    trained = made([Modality("a", "features", (6,)), OTHER], {})
    with pytest.raises(UsageError, match=r"rlmba\[onnx\]"):
        write_onnx(trained, tmp_path / "model.onnx")
