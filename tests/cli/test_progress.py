"""Progress of long work: lines where standard error is a pipe, a bar on a terminal."""

from __future__ import annotations

import csv
import io
import os
import pty
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from rlmba.cli import counter
from rlmba.cli.comparison_progress import comparison_progress
from rlmba.cli.progress import run_progress, training_progress
from rlmba.data import load_manifest
from rlmba.experiments.sweep import load_sweep, make_plan
from rlmba.experiments.sweep.folder import LatestFigures
from rlmba.experiments.sweep.schedule import RunProgress, RunState
from rlmba.learner import configure
from rlmba.learner import run as run_loop
from rlmba.progress import announce, announced_to, counted
from tests.helpers.sweep_runs import TINY, write_features


class Heard:
    """What was announced, as (stage, done, total)."""

    def __init__(self):
        self.calls = []

    def __call__(self, stage, done=0, total=0):
        self.calls.append((stage, done, total))

    def stages(self):
        return list(dict.fromkeys(stage for stage, _, _ in self.calls))


def until(wanted, capsys, within=20):
    """What is printed to stderr until ``wanted`` is part of it."""
    printed, deadline = "", time.monotonic() + within
    while wanted not in printed and time.monotonic() < deadline:
        time.sleep(0.01)
        printed += capsys.readouterr().err
    return printed


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(counter, "SECONDS", 0.02)


@pytest.mark.usefixtures("quick")
def test_long_computation_of_features_is_shown_until_it_ends(tmp_path, capsys):
    with run_progress(tmp_path) as observer:
        observer.features(0, 2000)
        observer.features(10, 2000)
        printed = until("features: 10 of 2,000", capsys)
        observer.features(2000, 2000)
        time.sleep(0.5)
        capsys.readouterr()
        time.sleep(0.1)
        assert capsys.readouterr().err == ""
    assert "computing features of 2,000 samples" in printed
    assert "features: 10 of 2,000" in printed


@pytest.mark.usefixtures("quick")
def test_what_is_announced_in_the_block_is_shown(capsys):
    with counter.stages():
        announce("guessing", 30, 100)
        announce("guessing", 40, 100)
        assert "guessing: 40 of 100" in until("guessing: 40 of 100", capsys)
        announce("thinking")
        assert "thinking ... " in until("thinking", capsys)
    announce("unheard")
    assert "unheard" not in capsys.readouterr().err


def test_rate_leaves_out_what_was_done_before():
    lines = counter._Lines()
    lines.show("rounds", 90_000, 98_200)
    lines._began -= 1000
    lines.show("rounds", 91_000, 98_200)
    assert lines._line() == "rounds: 91,000 of 98,200, 1.0 per second, about 2.0 h left"


def test_counted_items_are_announced_at_the_start_and_at_the_end():
    heard = Heard()
    with announced_to(heard):
        assert list(counted("reading", iter("abc"), 3)) == ["a", "b", "c"]
        assert list(counted("nothing", (), 0)) == []
    assert heard.calls[0] == ("reading", 0, 3)
    assert ("reading", 3, 3) in heard.calls
    assert heard.stages() == ["reading", "nothing"]


def test_rounds_of_a_run_count_their_steps_and_samples(tmp_path):
    rng, y = np.random.default_rng(0), np.arange(60) % 3
    features = {m: rng.normal(size=(60, 4)) + np.eye(3, 4)[y] for m in "ab"}
    split = np.arange(60) >= 50
    np.savez(tmp_path / "data.npz", **features, y=y, split=split.astype(int))
    settings = ["rounds=1", "initial_labels=9", "batch_size=3", "epochs=2", "strategy=entropy"]
    given = {"dataset": "features", "data": tmp_path / "data.npz", "model.width": 8}
    heard = Heard()

    class Watching:
        def features(self, done, total): ...
        def begin(self, config, done): ...
        def round(self, record): ...
        def stage(self, number, name, done=0, total=0):
            heard(f"{number} {name}", done, total)

    run_loop(configure(given, settings=settings), tmp_path / "run", observer=Watching())
    stages = {f"{n} {s}" for n in (0, 1) for s in ("train", "validate", "predict")}
    assert {*stages, "1 select"} <= set(heard.stages())
    for stage in ("0 train", "1 predict"):
        counts = [(done, total) for s, done, total in heard.calls if s == stage and total]
        assert counts[-1][0] == counts[-1][1] > 0


@pytest.mark.usefixtures("quick")
def test_a_step_of_policy_training_is_a_line(capsys):
    figures = {"episodes": 8, "return": 0.5, "moving_return": 0.25, "entropy": 1.0}
    with training_progress(64) as step:
        step("", figures)
        printed = until("episodes: 8 of 64", capsys)
    assert "episodes     8  return 0.5000" in printed


@pytest.mark.usefixtures("quick")
def test_rounds_of_a_piped_comparison_are_counted(tmp_path, capsys):
    file = write_features(tmp_path / "toy.npz")
    values = {"datasets": [str(file)], "strategies": ["random"], "seeds": "0-1", "settings": TINY}
    plan = make_plan(load_sweep(values), tmp_path / "out")
    entries = [RunProgress(run) for run in plan.runs]
    with comparison_progress(plan, tmp_path / "out") as observer:
        observer.begin(entries, "one process")
        observer.tick()
        total = sum(run.rounds for run in plan.runs)
        until(f"rounds: 0 of {total}", capsys)
        entries[0].latest, entries[0].state = LatestFigures(1), RunState.RUNNING
        observer.tick()
        assert f"rounds: 1 of {total}, " in until(f"rounds: 1 of {total}", capsys)


def test_checking_files_and_guessing_the_encoding_is_counted(tmp_path):
    for i in range(12):
        Image.fromarray(np.full((40, 40, 3), i, np.uint8)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_bytes("schöne Grüße".encode("latin-1"))
    with (tmp_path / "pool.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("id", "image", "text"), *((i, f"{i}.png", f"{i}.txt") for i in range(12))]
        )
    heard = Heard()
    with announced_to(heard):
        with pytest.warns(match="not UTF-8"):
            data = load_manifest(tmp_path / "pool.csv")
        data.sample_keys()
    for stage, total in (
        ("checking files (image)", 12),
        ("checking files (text)", 12),
        ("checking the encoding of texts", 12),
        ("reading files", 24),
    ):
        assert (stage, total, total) in heard.calls


SCRIPT = """
from rlmba.cli.counter import stages
with stages() as show:
    show("working", 3, 7)
    print("a result", flush=True)
"""


def test_results_are_not_written_to_the_terminal_of_the_bar(tmp_path):
    """With a bar on the terminal, standard output still goes where the user sends it."""
    master, slave = pty.openpty()
    with (tmp_path / "out.txt").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            stdout=out,
            stderr=slave,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        )
        os.close(slave)
        shown = io.BytesIO()

        def read():
            try:
                while data := os.read(master, 4096):
                    shown.write(data)
            except OSError:  # the other end is closed
                pass

        reader = threading.Thread(target=read)
        reader.start()
        assert process.wait() == 0
        reader.join()
    os.close(master)
    assert (tmp_path / "out.txt").read_text() == "a result\n"
    assert b"working" in shown.getvalue()
    assert b"3 of 7" in shown.getvalue()
