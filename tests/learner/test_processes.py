"""A run spread over processes: the run of one, and the end of all when one ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import float64_runs

SETTINGS = [
    "rounds=2",
    "initial_labels=20",
    "batch_size=10",
    "epochs=2",
    "training.min_steps=0",
    "model.width=16",
    "device=cpu",
]


FLOAT64 = [float64_runs.__file__]


def arguments(path, *settings, program=("-m", "rlmba")):
    flags = [x for s in (*SETTINGS, *settings) for x in ("--set", s)]
    return [*program, "run", *flags, "--output", str(path)]


def records(path):
    rows = [json.loads(line) for line in (path / "rounds.jsonl").read_text().splitlines()]
    for row in rows:
        del row["seconds"], row["select_seconds"]
    return rows


def chosen(path):
    return [json.loads(p.read_text())["ids"] for p in sorted((path / "selected").glob("*.json"))]


def close(found, expected, where=""):
    if isinstance(expected, dict):
        assert set(found) == set(expected)
        for key in expected:
            close(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-7), where
    else:
        assert found == expected, where


@pytest.mark.slow
def test_two_processes_choose_and_score_as_one(tmp_path):
    """Under the launcher people use."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    first = subprocess.run(
        [sys.executable, *arguments(alone, program=FLOAT64)],
        env=env,
        capture_output=True,
        check=False,
    )
    assert first.returncode == 0, first.stderr
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command = [sys.executable, *launcher, *arguments(together, program=FLOAT64)]
    both = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert both.returncode == 0, both.stderr
    assert chosen(together) == chosen(alone)
    for found, expected in zip(records(together), records(alone), strict=True):
        close(found, expected)
    assert both.stderr.count("round  2") == 1  # one process speaks
    assert both.stdout.count("seconds per round") == 1
    again = subprocess.run(
        [*command, "--resume"], env=env, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert "resumed after round 2" in again.stderr


def wait_for(path, processes, seconds=120):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline
        assert all(p.poll() is None for p in processes)
        time.sleep(0.01)


def children(pid):
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "message", "codes"),
    [
        ("kill", "error: another process of this run has ended", (1, -signal.SIGKILL)),
        ("interrupt", "interrupted; continue with: rlmba run", (1, 130)),
        ("worker", "error: one of 1 processes that load data has died", (1, 1)),
    ],
)
def test_when_one_process_ends_all_do_with_one_message(launch, tmp_path, end, message, codes):
    long = arguments(tmp_path / "run", "rounds=100", "training.workers=1")
    processes = launch(long)
    wait_for(tmp_path / "run" / "rounds.jsonl", processes)
    other = processes[1]
    if end == "kill":
        other.kill()
    elif end == "interrupt":
        other.send_signal(signal.SIGINT)
    else:
        os.kill(children(other.pid)[0], signal.SIGKILL)
    said = [p.communicate(timeout=60)[1] for p in processes]
    assert tuple(p.returncode for p in processes) == codes
    complaints = [
        line
        for text in said
        for line in text.splitlines()
        if line.startswith(("error", "interrupted", "Traceback"))
    ]
    assert len(complaints) == 1, complaints
    assert complaints[0].startswith(message)


@pytest.mark.slow
def test_resumed_processes_all_have_the_weights(launch, tmp_path):
    """Each predicts its share of the pool with the checkpoint's weights, before any training."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    whole = [sys.executable, *arguments(alone, "rounds=3", program=FLOAT64)]
    assert subprocess.run(whole, env=env, capture_output=True, check=False).returncode == 0
    command = arguments(together, "rounds=3", program=FLOAT64)
    processes = launch(command)
    wait_for(together / "rounds.jsonl", processes)
    for process in processes:
        process.kill()
        process.communicate(timeout=60)
    done = len(records(together))
    assert done < 4
    again = launch([*command, "--resume"])
    said = [p.communicate(timeout=300)[1] for p in again]
    assert [p.returncode for p in again] == [0, 0], said
    assert chosen(together) == chosen(alone)
    for found, expected in zip(records(together), records(alone), strict=True):
        close(found, expected)


@pytest.mark.slow
def test_a_bad_request_is_refused_once(launch, tmp_path):
    processes = launch(arguments(tmp_path / "run", "rounds=500"))
    said = "".join(p.communicate(timeout=60)[1] for p in processes)
    assert said.count("the budget exceeds the pool") == 1
    assert said.count("error") == 1
    assert all(p.returncode for p in processes)
    assert not (tmp_path / "run").exists()
