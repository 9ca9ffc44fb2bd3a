from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time

import pytest

SETTINGS = [
    "rounds=4",
    "initial_labels=20",
    "batch_size=10",
    "epochs=2",
    "model.width=16",
    "device=cpu",
]


def command(path, *more):
    flags = [x for s in SETTINGS for x in ("--set", s)]
    return [
        sys.executable,
        "-m",
        "rlmba",
        "run",
        "--dataset",
        "digits",
        *flags,
        "--output",
        str(path),
        *more,
    ]


def answer(path):
    records = [json.loads(line) for line in (path / "rounds.jsonl").read_text().splitlines()]
    for r in records:
        del r["seconds"], r["select_seconds"]
    selected = [json.loads(p.read_text()) for p in sorted((path / "selected").glob("round_*.json"))]
    checkpoint = {
        p.name: p.read_bytes() for p in sorted((path / "checkpoints" / "round_004").iterdir())
    }
    return records, selected, checkpoint


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_at_most_the_round_in_flight(tmp_path):
    whole = tmp_path / "whole"
    start = time.monotonic()
    subprocess.run(command(whole), check=True, capture_output=True)
    duration = time.monotonic() - start

    killed, kills = tmp_path / "killed", 0
    moments = random.Random(0)
    while kills < 6:
        before = (
            len((killed / "rounds.jsonl").read_text().splitlines())
            if killed.exists() and (killed / "rounds.jsonl").exists()
            else 0
        )
        process = subprocess.Popen(
            command(killed, "--resume"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=moments.uniform(0.3, 1.0) * duration)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            log = killed / "rounds.jsonl"
            complete = log.read_bytes().count(b"\n") if log.exists() else 0
            assert complete >= before
        else:
            break
    final = subprocess.run(command(killed, "--resume"), capture_output=True, text=True, check=False)
    assert final.returncode == 0, final.stderr
    assert kills >= 1
    assert answer(killed) == answer(whole)
