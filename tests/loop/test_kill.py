from __future__ import annotations

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


def answer(path):
    records = [json.loads(line) for line in (path / "rounds.jsonl").read_text().splitlines()]
    for r in records:
        del r["seconds"], r["select_seconds"]
    selected = [json.loads(p.read_text()) for p in sorted((path / "selected").glob("round_*.json"))]
    folder = path / "checkpoints" / "round_004"
    return records, selected, json.loads((folder / "state.json").read_text())


def weights(path):
    # As tensors: the order of a safetensors file's metadata differs between processes.
    folder = path / "checkpoints" / "round_004"
    tensors = [load_file(folder / f"{n}.safetensors") for n in ("model", "strategy")]
    return tensors[0] | tensors[1]


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_at_most_the_round_in_flight(tmp_path):
    whole = tmp_path / "whole"
    start = time.monotonic()
    subprocess.run(command(whole), check=True, capture_output=True)
    duration = time.monotonic() - start

    killed, kills = tmp_path / "killed", 0
    moments = random.Random(0)
    while kills < 5:
        before = complete_rounds(killed)
        process = subprocess.Popen(
            command(killed, "--resume"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=moments.uniform(0.5, 0.95) * duration)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            assert complete_rounds(killed) >= before
        else:
            break
    final = subprocess.run(command(killed, "--resume"), capture_output=True, text=True, check=False)
    assert final.returncode == 0, final.stderr
    assert kills >= 1
    assert answer(killed) == answer(whole)
    a, b = weights(killed), weights(whole)
    assert set(a) == set(b)
    for key, tensor in a.items():
        np.testing.assert_array_equal(tensor, b[key])
