"""`rlmba select` on shards, by one process and by several."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rlmba.adapters.shards import join_slurm, parse_bytes
from rlmba.errors import UsageError
from rlmba.training import rank_and_size
from tests.helpers.stalling import stalled


@pytest.fixture
def shards(tmp_path, rng):
    folder = tmp_path / "pool"
    folder.mkdir()
    for k, n in enumerate((3000, 5000, 1234)):
        np.savez(
            folder / f"part-{k}.npz",
            ids=np.array([f"{k}-{i}" for i in range(n)]),
            features=rng.normal(size=(n, 8)).astype(np.float32),
            logits=rng.normal(size=(n, 4)).astype(np.float32),
        )
    return folder


def launch(*arguments, processes=0, env=None):
    launcher = ["torch.distributed.run", "--nproc-per-node", str(processes), "--no-python"]
    command = [sys.executable, "-m", "rlmba", "select", *map(str, arguments)]
    if processes:
        command = [sys.executable, "-m", *launcher, *command]
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root, **(env or {})},
    )


def run(*arguments, **options):
    with launch(*arguments, **options) as process:
        printed, complaint = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, printed, complaint)


def arguments(shards, out, *more):
    return "--pool", shards, "-n", 40, "--out", out, "--seed", 3, *more


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["badge", "coreset"])
def test_same_batch_by_processes_and_by_one_that_spills(shards, tmp_path, strategy):
    alone = run(
        *arguments(shards, tmp_path / "a.csv", "--strategy", strategy, "--max-memory", "1kB")
    )
    assert alone.returncode == 0, alone.stderr
    assert "3 shards, 9,234 samples" in alone.stdout
    three = run(*arguments(shards, tmp_path / "b.csv", "--strategy", strategy), processes=3)
    assert three.returncode == 0, three.stderr
    assert three.stdout.count("selected 40 samples") == 1
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.slow
def test_an_error_in_one_process_is_said_once(shards, tmp_path):
    with np.load(shards / "part-2.npz") as held:
        arrays = dict(held)
    arrays["features"][7, 1] = np.nan
    np.savez(shards / "part-2.npz", **arrays)
    found = run(*arguments(shards, tmp_path / "a.csv", "--strategy", "badge"), processes=2)
    assert found.returncode != 0
    assert found.stderr.count("error: badge:") == 1
    assert "part-2.npz, row 7: expected finite numbers" in found.stderr
    assert not (tmp_path / "a.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "fate"),
    [
        (signal.SIGKILL, "has ended, possibly killed for lack of memory"),
        (signal.SIGSTOP, "does not answer: it hangs"),
    ],
)
def test_a_lost_process_ends_the_others_without_a_batch(shards, tmp_path, sent, fate):
    flag, out, spill = tmp_path / "flag", tmp_path / "a.csv", tmp_path / "spill"
    spill.mkdir()
    strategy = "--strategy", "tests.helpers.stalling:Stalling", "-o", f"flag={flag}"
    process = launch(
        *arguments(shards, out, *strategy, "--timeout", 20, "--spill-folder", spill), processes=2
    )
    try:
        pid, _ = stalled(flag, process)
        os.kill(pid, sent)
        _, complaint = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode != 0
    assert complaint.count("error: ") == 1
    assert f"error: another process of this run {fate}" in complaint
    assert not out.exists()
    assert not any(spill.iterdir())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["flag", "pool", "spill"]


@pytest.mark.slow
def test_more_processes_than_shards_and_chunks(tmp_path, rng):
    logits = rng.normal(size=(100, 3)).astype(np.float32)
    np.savez(tmp_path / "pool.npz", logits=logits, features=logits)
    for name in ("entropy", "badge"):
        given = "--pool", tmp_path, "-n", 9, "--strategy", name
        found = run(*given, "--out", tmp_path / f"{name}.csv", processes=4)
        assert found.returncode == 0, found.stderr
        alone = run(
            "--pool", tmp_path / "pool.npz", *given[2:], "--out", tmp_path / "alone.csv", "--force"
        )
        assert alone.returncode == 0, alone.stderr
        assert (tmp_path / "alone.csv").read_bytes() == (tmp_path / f"{name}.csv").read_bytes()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GiB", 4 << 30),
        ("500 MB", 500 << 20),
        ("1e9", 10**9),
        ("1.5k", 1536),
        ("7", 7),
        ("2T", 2 << 40),
    ],
)
def test_amounts_of_memory(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "many", "4GiBs", "1.2.3k", "nan"])
def test_no_amounts_of_memory(text):
    with pytest.raises(UsageError, match="amount of memory such as 4GiB"):
        parse_bytes(text)


def test_tasks_of_slurm_form_a_group(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    join_slurm()
    assert rank_and_size() == (0, 1)
    given = {
        "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "77",
        "SLURM_STEP_NODELIST": "node-[07-08,11]",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "x")  # so that monkeypatch restores what is set now
        monkeypatch.delenv(name)
    join_slurm()
    assert rank_and_size() == (2, 4)
    assert os.environ["MASTER_ADDR"] == "node-07"
    assert os.environ["MASTER_PORT"] == "20077"
    monkeypatch.setenv("WORLD_SIZE", "9")
    join_slurm()
    assert os.environ["WORLD_SIZE"] == "9"


def test_arguments_that_shards_do_not_take(shards, tmp_path):
    for more, message in (
        (("--npy-holds", "logits"), "--ids and --npy-holds: expected a pool in one file"),
        (("--strategy", "gcnal"), "cannot choose from shards"),
        (("--spill-folder", tmp_path / "none"), "--spill-folder: expected a folder"),
        (("--max-memory", "much"), "amount of memory such as 4GiB"),
    ):
        found = run(*arguments(shards, tmp_path / "a.csv", *more))
        assert found.returncode == 2, found.stderr
        assert message in found.stderr
    found = run("--pool", shards, "-n", 10_000, "--dry-run")
    assert "-n: expected 0 to 9,234" in found.stderr
    found = run(*arguments(shards, tmp_path / "a.csv", "--processes", 4))
    assert "--processes and --rows: expected --dry-run" in found.stderr
    found = run(*arguments(shards, tmp_path / "a.csv", "--ray", "auto"), env={"WORLD_SIZE": "2"})
    assert found.returncode == 2
    assert "--ray: expected a single command, because Ray starts" in found.stderr


def test_an_estimate_for_other_numbers_of_rows_and_processes(shards, tmp_path):
    more = "--processes", 64, "--rows", "1e9", "--strategy", "badge", "--max-memory", "1GiB"
    found = run("--pool", shards, "-n", 1000, "--dry-run", *more)
    assert found.returncode == 0, found.stderr
    assert "estimate for 1,000 of 1,000,000,000 by badge, 64 processes" in found.stdout
    assert re.search(
        r"memory of a process: at most [0-9.]+ GB and [0-9.]+ MB of temp", found.stdout
    )
    assert re.search(r"network: [0-9.]+ MB received by a process, in [0-9,]+ rounds", found.stdout)
    alone = run("--pool", shards, "-n", 10, "--dry-run", "--strategy", "margin")
    assert "network: none" in alone.stdout
