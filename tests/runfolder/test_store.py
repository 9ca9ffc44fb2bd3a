from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from rlmba.config import RunConfig
from rlmba.errors import RunFolderError, StorageError, UsageError
from rlmba.runfolder.store import RunStore, read_run
from rlmba.storage import atomic_write_bytes
from rlmba.types import Evaluation, HeadMetrics, RoundRecord, TrainingDiagnostics


def save(folder: Path) -> None:
    atomic_write_bytes(folder / "model.safetensors", b"model")


def record(number: int) -> RoundRecord:
    figures = Evaluation({"mm": HeadMetrics(0.5, 0.4, 1.2, 0.1)}, 10)
    return RoundRecord(
        round=number,
        labels=10 * (number + 1),
        selected=10,
        validation=figures,
        test=None,
        weights={"a": 1.0},
        fusion_weights={"a": 1.0},
        delta={"a": 0.0},
        contributions={"a": 1.0},
        temperatures={"mm": 1.0, "a": 1.0},
        training=TrainingDiagnostics(-0.1, 1.0, 0.3, 12),
        seconds={"train": 0.5},
    )


def create(path: Path):
    return RunStore.create(
        path,
        RunConfig(),
        info={"seed": 0},
        environment={},
        split={"validation": ["v"], "initial": ["i"]},
    )


def commit(store: RunStore, number: int) -> None:
    ids = [f"r{number}-{i}" for i in range(3)]
    store.commit(record(number), ids=ids, labels=[0, 1, 2], scores=[0.1] * 3, save=save)


@pytest.fixture
def run(tmp_path) -> Path:
    path = tmp_path / "run"
    with create(path) as store:
        for t in range(3):
            commit(store, t)
    return path


def test_round_trip(run):
    view = read_run(run)
    assert view.records == [record(t) for t in range(3)]
    assert view.config == RunConfig()
    with RunStore.resume(run) as store:
        assert store.records == view.records
        assert store.labeled()[0][:4] == ["r0-0", "r0-1", "r0-2", "r1-0"]
        assert (store.checkpoint() / "model.safetensors").read_bytes() == b"model"
        assert store.split()["validation"] == ["v"]
        commit(store, 3)
    assert len(read_run(run).records) == 4


def test_the_configuration_is_read_as_it_was_written(tmp_path):
    """``no`` is text, ``1e-05`` a number, in keys and values alike."""
    options = {"no": 1e-05, "classes": ["no", "yes", "1:30", "010"], "off": "1e-05"}
    config = RunConfig(dataset_options=options)
    with RunStore.create(
        tmp_path, config, info={}, environment={}, split={"validation": [], "initial": []}
    ):
        pass
    assert read_run(tmp_path).config == config
    (tmp_path / "config.yaml").write_text("dataset_options: {no: 1e-05, off: no}\n")
    assert read_run(tmp_path).config.dataset_options == {"no": 1e-05, "off": "no"}


def test_figures_unknown_or_not_kept_yet_are_read(run):
    """Lines of a time before f1, auroc and per_class were kept; and what is None stays None."""
    log = run / "rounds.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines[:2]:
        for key in ("f1", "auroc", "per_class"):
            del line["validation"]["heads"]["mm"][key]
    known = HeadMetrics(0.5, 0.4, 1.2, 0.1, 0.3, None, (0.25, None))
    lines[2]["validation"]["heads"]["mm"] = asdict(known)
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    old, _, new = read_run(run).records
    assert old == record(0)
    assert (old.validation.mm.f1, old.validation.mm.auroc, old.validation.mm.per_class) == (
        None,
        None,
        (),
    )
    assert new.validation.mm == known


def test_only_the_last_checkpoint_is_kept(run):
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["round_002"]


@pytest.mark.parametrize("keep", [0, 1, 17, -2])
def test_torn_last_line_is_cut(run, keep):
    log = run / "rounds.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:2]) + lines[2][:keep])
    assert [r.round for r in read_run(run).records] == [0, 1]
    with RunStore.resume(run) as store:
        assert len(store.records) == 2
    assert log.read_bytes() == b"".join(lines[:2])


@pytest.mark.parametrize("append", [False, True])
def test_the_log_is_not_cut_or_appended_to_through_a_link(run, tmp_path, append):
    victim = tmp_path / "victim"
    victim.write_text((run / "rounds.jsonl").read_text() + "precious")
    if append:
        with RunStore.resume(run) as store:
            (run / "rounds.jsonl").unlink()
            (run / "rounds.jsonl").symlink_to(victim)
            with pytest.raises(StorageError, match="found a symbolic link"):
                commit(store, 3)
    else:
        (run / "rounds.jsonl").unlink()
        (run / "rounds.jsonl").symlink_to(victim)
        with pytest.raises(StorageError, match="found a symbolic link"), RunStore.resume(run):
            pass
    assert victim.read_text().endswith("precious")


def test_damage_in_the_middle_is_an_error(run):
    log = run / "rounds.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0] + b'{"round": 1}\n' + lines[2])
    with pytest.raises(RunFolderError, match="line 2 is damaged"):
        read_run(run)
    log.write_bytes(lines[0] + lines[2])
    with pytest.raises(RunFolderError, match="line 2: expected round 1, got 2"):
        read_run(run)


def test_foreign_and_damaged_folders(run, tmp_path):
    with pytest.raises(RunFolderError, match="found none"):
        read_run(tmp_path / "nowhere")
    (tmp_path / "foreign").mkdir()
    with pytest.raises(RunFolderError, match="not a run folder"):
        read_run(tmp_path / "foreign")
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"format": 99}))
    with pytest.raises(RunFolderError, match="format 99"):
        read_run(run)
    (run / "run.json").write_text("[]")
    with pytest.raises(RunFolderError, match="not written by rlmba"):
        read_run(run)
    (run / "run.json").write_text(json.dumps(info))
    (run / "config.yaml").write_text("rounds: many\n")
    with pytest.raises(RunFolderError, match=r"config\.yaml is missing or damaged"):
        read_run(run)


def test_a_folder_in_use_is_not_overwritten(run, tmp_path):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with pytest.raises(UsageError, match="already holds a run: add --resume"), create(run):
        pass
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="files that are not a run"), create(other):
        pass
    assert [p.name for p in other.iterdir()] == ["thesis.txt"]


def test_what_a_kill_during_creation_leaves_can_be_created_again(tmp_path):
    path = tmp_path / "run"
    with create(path):
        pass
    (path / "run.json").unlink()
    with create(path) as store:
        commit(store, 0)
    assert len(read_run(path).records) == 1


def test_second_process_is_refused(run):
    script = (
        "import sys; from pathlib import Path; from rlmba.runfolder.store import RunStore\n"
        "with RunStore.resume(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline().strip() == "held"
        with (
            pytest.raises(RunFolderError, match=f"written by process {holder.pid}"),
            RunStore.resume(run),
        ):
            pass
        holder.kill()
    with RunStore.resume(run):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_full_disk_harms_nothing(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(small)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        with create(small / "run") as store:
            commit(store, 0)
            commit(store, 1)

            def too_much(folder: Path) -> None:
                atomic_write_bytes(folder / "model.safetensors", os.urandom(1_000_000))

            with pytest.raises(StorageError, match=r"No space left.*unchanged"):
                store.commit(record(2), ids=["x"], labels=[0], scores=[0.0], save=too_much)
        assert len(read_run(small / "run").records) == 2
        with RunStore.resume(small / "run") as store:
            assert (store.checkpoint() / "model.safetensors").read_bytes() == b"model"
            commit(store, 2)
        assert len(read_run(small / "run").records) == 3
    finally:
        subprocess.run(["umount", str(small)], check=True)
