from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

SETTINGS = [
    "rounds=4",
    "initial_labels=20",
    "batch_size=10",
    "epochs=1",
    "training.min_steps=0",
    "model.width=16",
    "device=cpu",
]


def command(path, *more):
    flags = [x for s in SETTINGS for x in ("--set", s)]
    return [sys.executable, "-m", "rlmba", "run", *flags, "--output", str(path), *more]


def complete_rounds(path):
    log = path / "rounds.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def answer(path, last=4):
    records = [json.loads(line) for line in (path / "rounds.jsonl").read_text().splitlines()]
    for r in records:
        del r["seconds"], r["select_seconds"]
    selected = [json.loads(p.read_text()) for p in sorted((path / "selected").glob("round_*.json"))]
    folder = path / "checkpoints" / f"round_{last:03d}"
    return records, selected, json.loads((folder / "state.json").read_text())


def weights(path, last=4):
    # As tensors: the order of a safetensors file's metadata differs between processes.
    folder = path / "checkpoints" / f"round_{last:03d}"
    tensors = [load_file(folder / f"{n}.safetensors") for n in ("model", "strategy")]
    return tensors[0] | tensors[1]


def kill_in_round(process, path, complete, delay):
    """Kill -9, `delay` seconds after so many rounds were complete; False if it was done before."""
    while complete_rounds(path) < complete:
        if process.poll() is not None:
            return False
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_at_most_the_round_in_flight(tmp_path):
    whole = tmp_path / "whole"
    subprocess.run(command(whole), check=True, capture_output=True)
    records = [json.loads(line) for line in (whole / "rounds.jsonl").read_text().splitlines()]
    shortest = min(sum(record["seconds"].values()) for record in records)

    killed, kills = tmp_path / "killed", 0
    moments = random.Random(0)
    # Once a round, anywhere in it; the second meets its round complete and dies while starting.
    for complete in (1, 1, 2, 3, 4):
        before = complete_rounds(killed)
        process = subprocess.Popen(
            command(killed, "--resume"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        kills += kill_in_round(process, killed, complete, moments.uniform(0, 0.9) * shortest)
        assert complete_rounds(killed) >= max(before, complete)
    final = subprocess.run(command(killed, "--resume"), capture_output=True, text=True, check=False)
    assert final.returncode == 0, final.stderr
    assert kills >= 3
    assert answer(killed) == answer(whole)
    a, b = weights(killed), weights(whole)
    assert set(a) == set(b)
    for key, tensor in a.items():
        np.testing.assert_array_equal(tensor, b[key])


@pytest.mark.slow
def test_kill_9_within_a_long_training_loses_at_most_an_interval_of_it(tmp_path):
    def long(path, *more):
        settings = ["rounds=1", "training.min_steps=60", "training.minibatch_size=8"]
        return command(path, *[x for s in settings for x in ("--set", s)], *more)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(long(whole), check=True, capture_output=True)
    often = ["--set", "training.checkpoint_minutes=1e-6", "--resume"]
    for complete in (0, 1):
        process = subprocess.Popen(
            long(killed, *often), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        file = killed / "training.safetensors"
        saved = set()  # when; the first may be what the round before has left
        while len(saved) < 3:
            assert process.poll() is None
            time.sleep(0.002)
            if complete_rounds(killed) == complete and file.exists():
                with contextlib.suppress(FileNotFoundError):
                    saved.add(file.stat().st_mtime_ns)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert complete_rounds(killed) == complete
        assert file.exists()
    subprocess.run(long(killed, *often), check=True, capture_output=True)
    assert not file.exists()
    assert answer(killed, 1) == answer(whole, 1)
    a, b = weights(killed, 1), weights(whole, 1)
    for key, tensor in a.items():
        np.testing.assert_array_equal(tensor, b[key])
