from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlmba.cli import main
from rlmba.config import load_config
from rlmba.learner import read_run, run
from tests.helpers.sweep_runs import SETTINGS, newest_lines, write_features

PAGE = (Path(__file__).parents[2] / "docs" / "compare.md").read_text(encoding="utf-8")


def command(*arguments):
    return [sys.executable, "-m", "rlmba", "compare", *map(str, arguments)]


@pytest.fixture
def compare(capsys):
    """`rlmba compare` in this process, where all modules are loaded; the runs are made in others."""

    def call(*arguments):
        capsys.readouterr()
        code = main(["compare", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def figures(folder):
    records = [r.to_dict() for r in read_run(folder).records]
    for r in records:
        del r["seconds"], r["select_seconds"]
    return records


def install(folder):
    """The strategy from the documentation, installed as by pip."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (project,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    folder.mkdir()
    (folder / "disagreement.py").write_text(code)
    about = folder / "disagreement-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: disagreement\nVersion: 1.0\n")
    points = project.partition('entry-points."rlmba.strategies"]')[2].replace('"', "")
    (about / "entry_points.txt").write_text(f"[rlmba.strategies]{points}")
    assert len(code.partition("@dataclass")[2].splitlines()) <= 20
    return folder


@pytest.mark.slow
def test_a_comparison_with_an_installed_strategy_that_grows(compare, tmp_path, monkeypatch):
    data = write_features(tmp_path / "toy.npz")
    out = tmp_path / "out"
    some = ["--data", data, "--seeds", "0-1", *SETTINGS, "--output", out, "--jobs", "1"]
    with monkeypatch.context() as patch:
        patch.syspath_prepend(install(tmp_path / "site"))
        code, printed, said = compare("--strategies", "random,disagreement", *some)
        assert code == 0, said
        assert "4 runs from 2 shared rounds 0, in 1 process" in said
        line = r"^\[\d/4\] toy amcb \w+ seed\d: Top-1 0\.\d+ \(largest class 0\.\d+\) at 18 labels$"
        assert len(re.findall(line, said, re.MULTILINE)) == 4
        assert str(out / "report") in printed
        chosen = out / "cells/toy/amcb/disagreement/seed1"
        assert [r.labels for r in read_run(chosen).records] == [6, 12, 18]
        # The shared round 0 keeps its model; complete runs keep none.
        shared = figures(out / "round0/toy/amcb/seed1")[0]["test"]
        other = chosen.parents[1] / "random" / "seed1"
        assert figures(chosen)[0]["test"] == figures(other)[0]["test"] == shared
        kept = {f.relative_to(out).parts[0] for f in out.rglob("model.safetensors")}
        assert kept == {"round0"}
        before = {f: f.read_bytes() for f in out.rglob("rounds.jsonl")}

        more = ["--strategies", "random,disagreement,greedy", *some, "--resume"]
        code, _, said = compare(*more)
        assert code == 0, said
        assert "4 runs are complete already" in said
        assert said.count("toy amcb greedy seed") == 2
        assert all(f.read_bytes() == content for f, content in before.items())
        assert read_run(out / "cells/toy/amcb/greedy/seed0").config.label == "greedy"
    code, _, said = compare(*more)
    assert code == 2
    assert "unknown strategy 'disagreement'" in said


def wait_until(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


def wait_until_gone(pids, seconds=30):
    end = time.monotonic() + seconds
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < end, left
        time.sleep(0.05)


def children(pid):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return found


def workers(pid):
    found = []
    for child in children(pid):
        with contextlib.suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


LONG = ["--set", "rounds=12", "--set", "batch_size=2", "--set", "training.min_steps=40"]


@pytest.mark.slow
def test_kill_9_of_a_process_and_of_the_whole_lose_at_most_rounds_in_flight(compare, tmp_path):
    data = write_features(tmp_path / "toy.npz")
    out = tmp_path / "out"
    cell = out / "cells/toy/amcb/random/seed0"
    arguments = ["--data", data, "--strategies", "random", "--seeds", "0", *SETTINGS, *LONG]
    arguments += ["--output", out, "--jobs", "1", "--resume"]
    process = subprocess.Popen(command(*arguments), stderr=subprocess.DEVNULL)
    wait_until(lambda: newest_lines(cell) >= 2, process)
    (worker,) = workers(process.pid)
    os.kill(worker, signal.SIGKILL)
    before = newest_lines(cell)
    wait_until(lambda: newest_lines(cell) > before, process)
    (second,) = workers(process.pid)
    assert second != worker
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until_gone([second])
    kept = (cell / "rounds.jsonl").read_bytes()
    kept = kept[: kept.rindex(b"\n") + 1]
    assert kept.count(b"\n") < 13

    code, _, said = compare("--resume", "--output", out, "--jobs", "1")
    assert code == 0, said
    assert (cell / "rounds.jsonl").read_bytes().startswith(kept)
    # The results do not show that it was killed, nor that it shares its round 0.
    parts = [part for part in (*SETTINGS, *LONG) if part != "--set"]
    flags = {"dataset": "features", "data": str(data), "strategy": "random"}
    whole = run(load_config(overrides=flags, settings=parts), tmp_path / "whole").path
    assert figures(cell) == figures(whole)


@pytest.mark.slow
def test_ctrl_c_is_one_message_and_ends_all(tmp_path):
    data = write_features(tmp_path / "toy.npz")
    out = tmp_path / "out"
    arguments = ["--data", data, "--strategies", "random", "--seeds", "0-1", *SETTINGS, *LONG]
    process = subprocess.Popen(
        command(*arguments, "--output", out, "--jobs", "1", "--together", "1"),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: newest_lines(out / "cells/toy/amcb/random/seed0") >= 1, process)
    started = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all of them
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1].startswith("interrupted; continue with: rlmba compare --data ")
    assert said.count("interrupted") == 1
    assert "Traceback" not in said
    wait_until_gone(started)


def test_failures_end_it_with_status_1_and_the_list(tmp_path):
    from rlmba.cli.compare import _refuse_failed
    from rlmba.errors import SweepError
    from rlmba.experiments.sweep import RunFailure, RunProgress, SweepResult, make_plan
    from rlmba.experiments.sweep import load_sweep as load

    data = write_features(tmp_path / "toy.npz")
    values = {"datasets": [str(data)], "strategies": ["random"], "seeds": [0]}
    values["settings"] = {"rounds": 1, "batch_size": 3, "initial_labels": 3}
    round0, cell = make_plan(load(values), tmp_path / "out").runs
    failed = RunProgress(round0, failure=RunFailure("DataError: no luck", "", ""))
    with pytest.raises(SweepError) as caught:
        _refuse_failed(SweepResult((), (failed,), (RunProgress(cell),)))
    assert "failed runs: 1. Each" in str(caught.value)
    assert (
        "round0/toy/amcb/seed0: DataError: no luck\nnot started, because they depend on these: 1"
        in str(caught.value)
    )
    _refuse_failed(SweepResult((), (), ()))


def test_the_table_of_a_terminal(tmp_path):
    from rich.console import Console

    from rlmba.cli.comparison_progress import remaining, table
    from rlmba.experiments.sweep import RunProgress, RunState, make_plan
    from rlmba.experiments.sweep import load_sweep as load
    from rlmba.experiments.sweep.folder import LatestFigures

    files = [write_features(tmp_path / f"{n}.npz") for n in ("one", "two", "three")]
    values = {
        "datasets": [str(f) for f in files],
        "strategies": ["random", "greedy"],
        "seeds": "0-1",
    }
    values["settings"] = {"rounds": 2, "batch_size": 3, "initial_labels": 3}
    entries = [RunProgress(job) for job in make_plan(load(values), tmp_path / "out").runs]

    def shown(width):
        console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
        console.print(table(entries, width))
        return console.export_text().splitlines()

    def entry(dataset, label, seed):
        return next(
            e
            for e in entries
            if (e.run.dataset, e.run.label, e.run.config.seed) == (dataset, label, seed)
        )

    assert remaining(entries, 10.0) is None
    done, running = entry("two", "random", 0), entry("two", "random", 1)
    done.state, done.latest = RunState.DONE, LatestFigures(3, 9, 0.75)
    running.state, running.latest = RunState.RUNNING, LatestFigures(1, 3, 0.25)
    entry("three", "greedy", 0).state = RunState.FAILED
    lines = shown(200)
    assert re.split(r"\s{2,}", lines[0].strip()) == ["one amcb", "two amcb", "three amcb"]
    assert re.split(r"\s{2,}", lines[1].strip()) == ["random", "0/2", "1/2 1 running 0.750", "0/2"]
    assert re.split(r"\s{2,}", lines[2].strip()) == ["greedy", "0/2", "0/2", "0/2 1 failed"]
    # If only one fits, it is the one that is running.
    assert "two amcb" in shown(40)[0]
    assert "one amcb" not in shown(40)[0]
    # 4 rounds in 10 s; 6 rounds 0, 2 of the running run and 3 of each of the other 9 are left.
    assert remaining(entries, 10.0) == pytest.approx(10 * (6 + 2 + 27) / 4)


def test_options_say_what_is_wrong_at_once(compare, tmp_path):
    data = write_features(tmp_path / "toy.npz")
    out = tmp_path / "out"
    code, _, said = compare("--data", data, "--output", out)
    assert code == 2
    assert "strategies: expected at least one" in said
    file = tmp_path / "study.yaml"
    file.write_text(f"datasets: {data}\nstrategies: random\nseeds: 0-1\nsettings: {{rounds: 99}}\n")
    code, _, said = compare(file, "--output", out, "--seeds", "3")
    assert code == 2
    assert "cells/toy/amcb/random/seed3: the budget exceeds the pool" in said
    code, _, said = compare("--strategies", "random", "--data-root", tmp_path, "--output", out)
    assert code == 2
    assert "--data-root: expected one for each data set that is a folder" in said
    assert not out.exists()
