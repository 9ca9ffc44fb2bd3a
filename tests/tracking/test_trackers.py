"""Experiment trackers: the trackers' stores are read back, and no failure of a tracker ends a run."""

from __future__ import annotations

import csv
import json
import signal
import socket
import sqlite3
import warnings

import pytest
from typer.testing import CliRunner

from rlmba.cli.app import application
from rlmba.config import RunConfig, load_config
from rlmba.errors import DataError, RlmbaWarning, UsageError
from rlmba.learner import configure, run
from rlmba.learner.tracked import tracked
from rlmba.project import loop
from rlmba.runfolder.settings import read_config
from rlmba.runfolder.store import read_run
from rlmba.tracking import trackers
from rlmba.tracking.numbers import numbers
from rlmba.types import Evaluation, HeadMetrics, RoundRecord, TrainingDiagnostics
from tests.helpers.interrupting import StopAfter, Stopped
from tests.helpers.people_data import made, rows_of, write_manifest


def settings(*names: str, **more) -> RunConfig:
    """Settings of a run that takes seconds."""
    quick = {"rounds": 2, "initial_labels": 20, "batch_size": 10, "epochs": 1, "device": "cpu"}
    return RunConfig.model_validate(
        {**quick, "model": {"width": 16}, "strategy": "random", "tracking": names, **more}
    )


def interrupted_and_resumed(config, folder):
    """Send two rounds in one process of each tracker, and the third round and the report in another one."""
    with pytest.raises(Stopped):
        run(config, folder, observer=StopAfter(1))
    first = json.loads((folder / "tracking.json").read_text())
    assert first["rounds"] == dict.fromkeys(config.tracking, 2)
    result = run(config, folder, resume=True)
    report = folder / "report"
    report.mkdir()
    (report / "table.md").write_text("| a |\n|---|\n| 1 |\n")
    picture(report / "curve.png")
    with tracked(folder, config) as opened:
        opened.report(40, report, sorted(report.iterdir()))
    last = json.loads((folder / "tracking.json").read_text())
    assert last == {"id": first["id"], "rounds": dict.fromkeys(config.tracking, 3)}
    return result.records, first["id"]


def picture(path):
    from PIL import Image

    Image.new("RGB", (4, 3)).save(path)


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return found


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Set where the trackers store their data, without a network."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def record() -> RoundRecord:
    head = HeadMetrics(0.5, 0.25, 1.5, 0.1, per_class=(1.0, None, 0.0))
    evaluation = Evaluation({"mm": head}, 8, never_predicted=((1, 4),))
    return RoundRecord(
        3, 40, 10, evaluation, None, {"image": 0.75}, {}, {}, {}, {}, TrainingDiagnostics(steps=7),
        {"train": 2.0}, raw_reward=0.5, policy={"entropy": 1.0}, backends={"top_k": "cpu"},
    )  # fmt: skip


def test_every_number_of_a_record(record):
    found = numbers(record, ["cat", "a/b", "dog"])
    assert found == {
        "round": 3, "labels": 40, "selected": 10, "training/steps": 7, "seconds/train": 2,
        "training/loss_slope": 0, "training/gradient_norm": 0, "training/final_loss": 0,
        "training/epochs": 0, "weights/image": 0.75, "policy/entropy": 1, "reward/raw_reward": 0.5,
        "validation/size": 8, "validation/never_predicted/class 1": 4, "validation/mm/top1": 0.5,
        "validation/mm/top1_macro": 0.25, "validation/mm/nll": 1.5, "validation/mm/ece": 0.1,
        "validation/mm/per_class/cat": 1, "validation/mm/per_class/dog": 0,
    }  # fmt: skip


class TestConfiguration:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ({"tensorboard": True}, ["tensorboard"]),
            ({"tensorboard": False}, []),
            ({"tensorboard": True, "tracking": ["mlflow"]}, ["tensorboard", "mlflow"]),
            ({"tensorboard": False, "tracking": ["tensorboard", "wandb"]}, ["wandb"]),
        ],
    )
    def test_the_key_of_earlier_versions(self, values, expected, tmp_path):
        file = tmp_path / "c.yaml"
        file.write_text(json.dumps(values))
        assert load_config(file=file).tracking == expected
        assert load_config(
            settings=[f"{k}={json.dumps(v)}" for k, v in values.items()]
        ).tracking == (expected)

    def test_a_folder_of_an_earlier_version(self, tmp_path):
        folder = run(settings(rounds=0), tmp_path / "r").path
        file = folder / "config.yaml"
        text = file.read_text()
        assert "tracking: []" in text
        file.write_text(text.replace("tracking: []", "tensorboard: true"))
        assert read_config(folder).tracking == ["tensorboard"]
        assert configure({"tensorboard": False}, resume_from=folder).tracking == []

    @pytest.mark.parametrize(
        "bad", ["tensorboard=maybe", "tracking=tensorboard", "tracking=[neptune]"]
    )
    def test_bad_values(self, bad):
        with pytest.raises(UsageError, match="tensorboard"):
            load_config(settings=[bad])

    def test_a_library_that_is_not_installed(self, tmp_path, monkeypatch):
        # wandb leaves a folder of this name behind, which is not a library.
        (tmp_path / "trackio").mkdir(exist_ok=True)
        monkeypatch.setattr(trackers.sys, "path", [str(tmp_path)])
        with pytest.raises(UsageError, match=r"pip install 'rlmba\[trackio\]'"):
            trackers.require_trackers(["trackio"])


class TestStores:
    def test_tensorboard(self, tmp_path):
        records, _ = interrupted_and_resumed(settings("tensorboard"), tmp_path / "r")
        found = events(tmp_path / "r")
        points = found.Scalars("test/mm/top1")
        assert [(p.step, p.value) for p in points] == [
            (r.labels, pytest.approx(r.test.mm.top1)) for r in records
        ]
        assert found.Scalars("test/mm/auroc")[1].value == pytest.approx(records[1].test.mm.auroc)
        assert "strategy" in str(found.Tensors("config")[0].tensor_proto.string_val)
        assert (found.Images("report/curve")[0].width, found.Images("report/curve")[0].height) == (
            4,
            3,
        )
        assert found.Tensors("report/table")[0].step == 40

    @pytest.mark.slow
    def test_mlflow(self, tmp_path):
        pytest.importorskip("mlflow", reason="no MLflow; .ci/run installs it")
        from mlflow import MlflowClient

        records, key = interrupted_and_resumed(settings("mlflow"), tmp_path / "r")
        client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
        (found,) = client.search_runs([client.get_experiment_by_name("rlmba").experiment_id])
        assert found.data.tags["rlmba.id"] == key
        assert found.info.run_name == "digits-random-seed0"
        assert found.info.status == "FINISHED"
        assert found.data.params["batch_size"] == "10"
        assert not any(name.startswith("project") for name in found.data.params)
        for name, values in numbers(records[-1], [str(c) for c in range(10)]).items():
            history = client.get_metric_history(found.info.run_id, name)
            assert history[-1].value == pytest.approx(values), name
        history = client.get_metric_history(found.info.run_id, "test/mm/top1")
        assert [(p.step, p.value) for p in history] == [(r.labels, r.test.mm.top1) for r in records]
        files = client.list_artifacts(found.info.run_id, "report")
        assert {f.path for f in files} == {"report/curve.png", "report/table.md"}

    @pytest.mark.slow
    def test_wandb(self, tmp_path):
        pytest.importorskip("wandb", reason="no wandb; .ci/run installs it")
        _, key = interrupted_and_resumed(settings("wandb"), tmp_path / "r")
        parts = sorted((tmp_path / "r" / "wandb").glob(f"offline-run-*-{key}/run-{key}.wandb"))
        stored = [part.read_bytes() for part in parts]
        assert len(stored) == 3  # `wandb sync` joins them, because their id is the same
        assert [b"test/mm/top1" in part for part in stored] == [True, True, False]
        assert b"report/curve" in stored[2]

    @pytest.mark.slow
    def test_trackio(self, tmp_path):
        pytest.importorskip("trackio", reason="no trackio; .ci/run installs it")
        records, key = interrupted_and_resumed(settings("trackio"), tmp_path / "r")
        with sqlite3.connect(tmp_path / "trackio" / "rlmba.db") as database:
            rows = database.execute("select run_name, step, metrics from metrics order by id")
            found = [(name, step, json.loads(values)) for name, step, values in rows]
            (config,) = database.execute("select config from configs").fetchall()
        assert {name for name, _, _ in found} == {f"digits-random-seed0-{key[:8]}"}
        points = [(s, v["test/mm/top1"]) for _, s, v in found if "test/mm/top1" in v]
        assert points == [(r.labels, r.test.mm.top1) for r in records]
        assert "report/curve" in found[-1][2]
        assert json.loads(config[0])["batch_size"] == 10


class TestFailures:
    def test_a_tracker_that_cannot_write_is_one_warning(self, tmp_path):
        """A file is in the place of TensorBoard's folder. When it is removed, the missing rounds are sent."""
        config, folder = settings("tensorboard"), tmp_path / "r"
        with pytest.raises(Stopped):
            run(settings(), folder, observer=StopAfter(0))
        (folder / "tensorboard").touch()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            result = run(config, folder, resume=True)
        ours = [str(w.message) for w in said if issubclass(w.category, RlmbaWarning)]
        assert len(ours) == 1
        assert "tensorboard failed and is left out (FileExistsError" in ours[0]
        assert len(result.records) == 3
        (folder / "tensorboard").unlink()
        run(config, folder, resume=True)
        assert [p.step for p in events(folder).Scalars("labels")] == [20, 30, 40]

    @pytest.mark.parametrize(
        ("signal_number", "why"),
        [(signal.SIGSTOP, "did not answer within 1 s"), (signal.SIGKILL, "ended with status -9")],
    )
    def test_a_tracker_that_hangs_or_dies(self, tmp_path, monkeypatch, record, signal_number, why):
        monkeypatch.setattr(trackers, "LONGEST_WAIT", 1.0)
        opened = trackers.Trackers(tmp_path, ["tensorboard"], name="r", config={})
        (process,) = [tracker._process for tracker in opened._trackers]
        process.send_signal(signal_number)
        with pytest.warns(RlmbaWarning, match=f"tensorboard failed .*{why}") as said, opened:
            opened.send([record] * 4)
        assert len([w for w in said if issubclass(w.category, RlmbaWarning)]) == 1
        assert process.poll() is not None

    @pytest.mark.slow
    def test_a_server_that_does_not_answer(self, tmp_path, monkeypatch):
        pytest.importorskip("mlflow", reason="no MLflow; .ci/run installs it")
        monkeypatch.setattr(trackers, "LONGEST_WAIT", 2.0)
        with socket.create_server(("localhost", 0)) as silent:
            address = f"http://localhost:{silent.getsockname()[1]}"
            monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
            with pytest.warns(RlmbaWarning, match="mlflow failed") as said:
                result = run(settings("mlflow"), tmp_path / "r")
        assert len([w for w in said if issubclass(w.category, RlmbaWarning)]) == 1
        assert len(result.records) == 3

    @pytest.mark.parametrize("text", ["{", '{"id": "../x"}', '{"rounds": {}}'])
    def test_a_damaged_file(self, tmp_path, text):
        run(settings(), tmp_path / "r")
        (tmp_path / "r" / "tracking.json").write_text(text)
        with pytest.raises(DataError, match=r"tracking\.json"):
            run(settings("tensorboard"), tmp_path / "r", resume=True)

    def test_a_run_that_fails_is_an_error_of_the_run(self, tmp_path):
        with pytest.raises(Stopped):
            run(settings("tensorboard"), tmp_path / "r", observer=StopAfter(0))
        assert [p.step for p in events(tmp_path / "r").Scalars("labels")] == [20]


def invoke(*arguments: str):
    """Invoke a command on short runs that TensorBoard tracks."""
    quick = ["rounds=1", "epochs=1", "model.width=16", "device=cpu"]
    given = [part for setting in quick for part in ("--set", setting)]
    command = [*arguments, "--tracking", "tensorboard", *given]
    assert CliRunner().invoke(application(), command, catch_exceptions=False).exit_code == 0


class TestCommands:
    def test_run(self, tmp_path):
        invoke("run", "--output", str(tmp_path / "r"))
        found = events(tmp_path / "r")
        assert [p.step for p in found.Scalars("labels")] == [20, 40]
        assert found.Images("report/learning_curve")[0].step == 40

    @pytest.mark.slow
    def test_compare(self, tmp_path):
        folder = tmp_path / "c"
        what = ("--strategies", "random", "--seeds", "0", "--jobs", "1")
        invoke("compare", "--output", str(folder), *what)
        (cell,) = folder.glob("cells/*/*/*/seed0")
        assert [p.step for p in events(cell).Scalars("labels")] == [20, 40]
        assert not list(folder.glob("round0/**/tracking.json"))
        assert any(tag.startswith("report/") for tag in events(folder).Tags()["images"])

    def test_a_project(self, tmp_path):
        rows, truth = rows_of()
        table = tmp_path / "truth.csv"
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([("id", "label"), *truth.items()])
        manifest = write_manifest(tmp_path / "m.jsonl", rows)
        options = {"annotator": "oracle", "annotator_options": {"truth": str(table)}}
        folder = made(tmp_path / "p", manifest, "tracking=[tensorboard]", **options)
        loop(folder, Quiet(), rounds=2)
        labels = [r.labels for r in read_run(folder).records]
        found = events(folder)
        assert [p.step for p in found.Scalars("labels")] == labels
        assert "truth.csv" not in str(found.Tensors("config")[0].tensor_proto)


class Quiet:
    def serving(self, url): ...
    def stage(self, stage, done=0, total=0): ...
    def asked(self, query): ...
    def waiting(self, answered, asked, trouble): ...
    def collected(self, found): ...
