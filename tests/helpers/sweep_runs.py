"""Runs without training, for tests of the scheduling of comparisons; spawned processes import it."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlmba.errors import DataError
from rlmba.experiments.sweep.work import EndedUnit, execute

TINY = {
    "rounds": 2,
    "batch_size": 6,
    "initial_labels": 6,
    "epochs": 1,
    "model.width": 16,
    "training.min_steps": 0,
    "device": "cpu",
}
SETTINGS = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]


def write_features(path, *, n=150, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    centers = rng.normal(size=(3, 8))
    arrays = {m: (centers[y] + rng.normal(size=(n, 8))).astype("f4") for m in ("left", "right")}
    np.savez(path, **arrays, y=y, split=(np.arange(n) % 4 == 3).astype("u1"))
    return path


def newest_lines(folder):
    log = folder / "rounds.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def once(flag):
    """Whether this is the first call with this flag."""
    try:
        Path(flag).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@dataclass(frozen=True)
class FakeRunner:
    """Writes the log of a run, which fails as its label says: "fails", "dies", "dies-once"."""

    log: Path
    together: bool = False
    seconds: float = 0.0

    def key(self, config):
        return f"{config.data} {config.fusion}" if self.together else None

    def run(self, configs, folders):
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as log:
            log.write(" ".join(str(f) for f in folders) + "\n")
        return [self._one(c, f) for c, f in zip(configs, folders, strict=True)]

    def _one(self, config, folder):
        folder.mkdir(parents=True, exist_ok=True)
        label = config.label or config.strategy
        for number in range(newest_lines(folder), config.rounds + 1):
            if number == 1 and label == "fails" and once(folder / "failed-once"):
                return DataError("no luck\nwith this")
            if number == 1 and (
                label == "dies" or (label == "dies-once" and once(folder.parent / "died-once"))
            ):
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(self.seconds)
            figures = {"heads": {"mm": {"top1": 0.5 + number / 10}}}
            line = {"round": number, "labels": 6 * number + 6, "test": figures}
            with (folder / "rounds.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            checkpoint = folder / "checkpoints" / f"round_{number:03d}"
            checkpoint.mkdir(parents=True)
            (checkpoint / "model.safetensors").touch()
            (checkpoint / "strategy.safetensors").touch()
        return None

    def calls(self):
        """The runs of each call, as names relative to the comparison's folder."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [[f.partition("/out/")[2] for f in line.split()] for line in lines]


class Inline:
    """Runs units in this process, one after another, in the order of their start."""

    where = "this process"

    def __init__(self, runner, slots=2):
        self.slots = slots
        self._runner = runner
        self._units = []

    def start(self, unit):
        self._units.append(unit)
        assert len(self._units) <= self.slots

    def wait(self, seconds):
        unit = self._units.pop(0)
        return [EndedUnit(unit, execute(unit, self._runner))]

    def close(self):
        assert not self._units
