"""Sharing networks: the exported folder, its model card and labels, the hub, and loading."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import rlmba
from rlmba.config import EncoderConfig, RewardConfig, RunConfig, identity, yaml12
from rlmba.data import load_digits
from rlmba.errors import CheckpointError, DataError, RunFolderError, UsageError
from rlmba.learner import Trained, run
from rlmba.project.export import export
from rlmba.project.shared import labels_of, shared_document
from rlmba.runfolder.store import read_run
from tests.helpers.people_data import made, round_of, rows_of, write_manifest
from tests.helpers.stand_in_hub import stand_in_hub

SECRET = "Only Ada knows"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on digits, whose settings contain paths of this machine and the name of a person."""
    root = tmp_path_factory.mktemp("sharing")
    settings = {
        "rounds": 2,
        "epochs": 2,
        "model": {"width": 16, "features_folder": root / "features"},
        "training": {"spill_folder": root},
        "project": {"instructions": SECRET},
        "device": "cpu",
    }
    return run(RunConfig.model_validate(settings), root / "run").path


@pytest.fixture(scope="module")
def exported(folder):
    return export(folder, folder.parent / "net", labels=True).path


@pytest.fixture(scope="module")
def samples():
    """Five digits in their stored form."""
    digits = load_digits()
    return {m.name: digits._arrays[m.name][:5] for m in digits.modalities}


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "net")


@pytest.fixture
def project(tmp_path):
    """A project after a round, with labels for the validation set."""
    rows, truth = rows_of()
    folder = made(tmp_path / "p", write_manifest(tmp_path / "m.jsonl", rows))
    for _ in range(2):
        assert round_of(folder, truth).record is not None
    return folder, truth


def header(card):
    _, text, body = card.split("---\n", 2)
    return yaml12.parse(text, "card"), body


class TestFolder:
    def test_nothing_of_the_machine_or_of_people(self, folder, exported):
        assert SECRET in (folder / "config.yaml").read_text()
        for file in exported.iterdir():
            content = file.read_bytes()
            for private in (str(folder.parent), SECRET, str(Path.home())):
                assert private.encode() not in content, (file, private)
        assert Trained.load(exported).config.project.instructions == ""

    def test_of_a_project(self, project):
        folder, _ = project
        out = export(folder, folder.parent / "net", labels=True).path
        for file in out.iterdir():
            assert str(folder.parent).encode() not in file.read_bytes(), file

    def test_settings_that_name_files(self, exported):
        trained = Trained.load(exported)
        encoder = EncoderConfig(name="cnn", weights="/home/ada/w.safetensors")
        config = trained.config.model_copy(
            update={
                "reward": RewardConfig(kind="relative", curves=[Path("/home/ada/badge")]),
                "strategy_options": {"kappa": 2, "policy_file": "/home/ada/p.safetensors"},
                "dataset_options": {"root": "/home/ada"},
                "model": trained.config.model.model_copy(update={"encoders": {"image": encoder}}),
            }
        )
        said = shared_document(replace(trained, config=config))
        assert "/home" not in json.dumps(said)
        again = RunConfig.model_validate(said["config"])
        assert identity(again) == said["identity"]
        assert again.strategy_options == {"kappa": 2}

    def test_the_model_card(self, folder, exported):
        said, body = header((exported / "README.md").read_text())
        records = read_run(folder).records
        assert said["library_name"] == "rlmba"
        assert "active-learning" in said["tags"]
        (result,) = said["model-index"][0]["results"]
        assert result["metrics"] == [{"type": "accuracy", "value": records[-1].test.mm.top1}]
        assert "strategy `rlmba`, fusion `amcb`, seed 0" in body
        for record in records:
            head = record.test.mm
            row = f"| {record.labels:,} | {head.top1:.1%} | {head.nll:.3f} | {head.ece:.3f} |"
            assert row in body

    def test_the_hubs_own_parser_reads_the_card(self, exported):
        from huggingface_hub import ModelCard

        data = ModelCard.load(exported / "README.md").data
        assert data.library_name == "rlmba"
        assert data.eval_results[0].metric_type == "accuracy"

    def test_an_export_of_an_export_keeps_the_history(self, exported, tmp_path):
        again = export(exported, tmp_path / "again").path
        cards = [header((f / "README.md").read_text())[1] for f in (again, exported)]
        assert cards[0] == cards[1].partition("\n## Labels")[0]
        with pytest.raises(UsageError, match="--labels: expected the folder of a run"):
            export(exported, tmp_path / "third", labels=True)
        assert not (tmp_path / "third").exists()

    @pytest.mark.slow
    def test_the_code_of_the_card_runs(self, exported):
        body = header((exported / "README.md").read_text())[1]
        snippets = [part.partition("```")[0] for part in body.split("```python\n")[1:]]
        code = (
            "\n".join(snippets) + "\nassert labels.num_rows == 60 and len(predictions.labels) == 1"
        )
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        subprocess.run([sys.executable, "-c", code], cwd=exported, env=environment, check=True)


class TestLabels:
    def test_of_a_run(self, folder, exported, tmp_path):
        datasets = pytest.importorskip("datasets")
        found = datasets.load_dataset(str(exported), split="train", cache_dir=str(tmp_path))
        digits = load_digits()
        truth = dict(zip(digits.ids.tolist(), digits.labels.tolist(), strict=True))
        assert found.column_names == ["id", "label", "round", "split"]
        assert len(found) == 60
        assert [digits.classes[truth[i]] for i in found["id"]] == list(found["label"])
        assert list(found["round"]) == [0] * 20 + [1] * 20 + [2] * 20
        assert set(found["split"]) == {"train"}

    def test_of_a_project(self, project):
        folder, truth = project
        found = labels_of(folder)
        assert found["label"] == [truth[i] for i in found["id"]]
        assert found["split"].count("validation") == 12
        rounds = [r for r, s in zip(found["round"], found["split"], strict=True) if s == "train"]
        assert rounds == [0] * 9 + [1] * 6


class TestLoad:
    def test_predictions_are_those_of_the_run(self, folder, exported, samples):
        expected = rlmba.load(folder, device="cpu").predict(samples)
        model = rlmba.load(exported, device="cpu")
        found = model.predict({**samples, "ids": list("abcde")}, batch_size=2)
        assert model.modalities == ("image", "audio")
        assert found.ids.tolist() == list("abcde")
        assert found.classes == load_digits().classes
        assert found.probabilities.shape == (5, 10)
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
        np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
        assert found.labels == expected.labels

    def test_a_sample_without_a_modality(self, exported, samples):
        model = rlmba.load(exported, device="cpu")
        present = [[True, False]] + [[True, True]] * 4
        one = model.predict({"image": samples["image"][:1]})
        both = model.predict({**samples, "present": present})
        np.testing.assert_allclose(both.probabilities[0], one.probabilities[0], atol=1e-6)
        present[3] = [False, False]
        with pytest.raises((UsageError, DataError), match="modality"):
            model.predict({**samples, "present": present})

    def test_a_manifest(self, project):
        folder, _ = project
        rows, truth = rows_of(20, seed=1, start=500)
        manifest = write_manifest(folder.parent / "new.jsonl", rows)
        model = rlmba.load(export(folder, folder.parent / "net").path, device="cpu")
        found = model.predict(manifest)
        assert found.ids.tolist() == list(truth)
        with pytest.raises(UsageError, match="expected the path of a manifest"):
            model.predict({"a": np.zeros((1, 4))})

    @pytest.mark.parametrize(
        ("change", "error", "match"),
        [
            (lambda s: {"smell": s["image"]}, DataError, "expected arrays of image, audio"),
            (lambda s: {}, DataError, "expected an array of"),
            (lambda s: {"image": s["image"][:, :3]}, DataError, "image"),
            (
                lambda s: {"image": s["image"], "audio": s["audio"][:2]},
                DataError,
                "one row per sample",
            ),
            (lambda s: "missing.npz", DataError, "missing"),
            (lambda s: "new.csv", UsageError, "--data"),
        ],
    )
    def test_bad_samples(self, exported, samples, change, error, match):
        with pytest.raises(error, match=match):
            rlmba.load(exported, device="cpu").predict(change(samples))

    def test_weights_that_are_damaged_or_missing(self, copy):
        weights = copy / "model.safetensors"
        good = weights.read_bytes()
        weights.write_bytes(good[: len(good) // 2])
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            rlmba.load(copy)
        weights.unlink()
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            rlmba.load(copy)

    def test_another_version_or_no_network(self, copy):
        config = copy / "config.json"
        said = json.loads(config.read_text())
        config.write_text(json.dumps({**said, "format": 99}))
        with pytest.raises(CheckpointError, match="99"):
            rlmba.load(copy)
        config.write_text(json.dumps({"model_type": "bert"}))
        with pytest.raises(CheckpointError, match=r"config\.json"):
            rlmba.load(copy)
        config.unlink()
        with pytest.raises(RunFolderError, match=r"config\.json|not a run folder"):
            rlmba.load(copy)

    @pytest.mark.parametrize("name", ["no/such/folder", "/nowhere", "../net", "a b"])
    def test_neither_a_folder_nor_a_name_on_the_hub(self, name):
        with pytest.raises(UsageError, match="expected a folder, or a name on the hub"):
            rlmba.load(name)


@pytest.fixture
def hub():
    with stand_in_hub() as served:
        yield served


def python(tmp_path, hub_address, *arguments, **more):
    """Run Python with an empty cache of the hub at an address; return the finished process."""
    environment = os.environ | {
        "HF_ENDPOINT": hub_address,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_TOKEN": "hf_none",
        "HF_HUB_DISABLE_XET": "1",
        **more,
    }
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


LOADED = "import rlmba; print(rlmba.load('ann/net', device='cpu').trained.labels)"


@pytest.mark.slow
class TestHub:
    """With the hub's own client, and a server that answers like the hub."""

    def test_push_and_load(self, folder, tmp_path, hub):
        push = ["-m", "rlmba", "export", str(folder), "--hub", "ann/net", "--labels"]
        done = python(tmp_path, hub.endpoint, *push)
        assert done.returncode == 0, done.stderr
        assert f"{hub.endpoint}/ann/net" in done.stdout
        assert hub.commits == 1
        assert hub.private == {"ann/net": True}
        files = hub.files["ann/net"]
        assert set(files) - {".gitattributes"} == {
            "README.md", "config.json", "labels.parquet", "model.safetensors"
        }  # fmt: skip
        here = export(folder, tmp_path / "net", labels=True, name="ann/net").path
        weights = files["model.safetensors"]
        assert len(weights) == (here / "model.safetensors").stat().st_size
        for name in ("README.md", "config.json", "labels.parquet"):
            assert files[name] == (here / name).read_bytes()
        assert b"rlmba.load('ann/net')" in files["README.md"]
        found = python(tmp_path, hub.endpoint, "-c", LOADED)
        assert found.stdout.strip() == "60", found.stderr
        # The cache is enough without the hub, in offline mode and when the hub cannot be reached.
        for more in ({"HF_HUB_OFFLINE": "1"}, {}):
            with socket.create_server(("localhost", 0)) as unused:
                nobody = f"http://localhost:{unused.getsockname()[1]}"
            found = python(tmp_path, nobody, "-c", LOADED, **more)
            assert found.stdout.strip() == "60", found.stderr

    def test_a_hub_that_is_not_there(self, folder, tmp_path):
        with socket.create_server(("localhost", 0)) as unused:
            nobody = f"http://localhost:{unused.getsockname()[1]}"
        out = tmp_path / "net"
        push = ["-m", "rlmba", "export", str(folder), "--hub", "ann/net", "--out", str(out)]
        done = python(tmp_path, nobody, *push)
        assert done.returncode == 2
        assert "ann/net could not be written on the hub" in done.stderr
        assert "Traceback" not in done.stderr
        assert not out.exists()
        for more in ({"HF_HUB_OFFLINE": "1"}, {}):
            found = python(tmp_path, nobody, "-c", LOADED, **more)
            assert "UsageError: ann/net: expected a folder, or a model on the hub" in found.stderr

    def test_a_name_that_is_not_there(self, tmp_path, hub):
        found = python(tmp_path, hub.endpoint, "-c", LOADED)
        assert "UsageError: ann/net: expected a folder, or a model on the hub" in found.stderr

    def test_bad_names(self, folder, tmp_path, hub):
        for name in ("net", "a/b/c", "ann/n et"):
            done = python(
                tmp_path, hub.endpoint, "-m", "rlmba", "export", str(folder), "--hub", name
            )
            assert done.returncode == 2
            assert "expected the name of a repository" in done.stderr
        done = python(tmp_path, hub.endpoint, "-m", "rlmba", "export", str(folder))
        assert "expected --out FOLDER, --hub OWNER/MODEL, or both" in done.stderr
        assert hub.files == {}
