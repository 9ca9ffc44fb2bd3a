from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from rlmba.errors import UsageError
from rlmba.experiments.sweep import LocalProcesses, RunState, load_sweep, make_plan, make_runs
from rlmba.experiments.sweep.processes import fitting_processes
from rlmba.workers import cores
from tests.helpers import sweep_runs
from tests.helpers.sweep_runs import TINY, FakeRunner, Inline, newest_lines, write_features


class Watcher:
    def __init__(self):
        self.entries, self.ended_runs, self.ticks = [], [], 0

    def begin(self, entries, where):
        self.entries, self.where = entries, where
        self.begun = [e.state for e in entries]

    def ended(self, entry):
        self.ended_runs.append((entry.run.name, entry.state, entry.latest.top1))

    def tick(self):
        self.ticks += 1


@pytest.fixture
def plan(tmp_path):
    file = write_features(tmp_path / "toy.npz")

    def make(*strategies, **values):
        variants = [
            {"strategy": "random", "label": s} if s.startswith(("fails", "dies")) else s
            for s in strategies
        ]
        values = {
            "datasets": [str(file)],
            "strategies": variants,
            "seeds": "0-1",
            "settings": TINY,
            **values,
        }
        return make_plan(load_sweep(values), tmp_path / "out")

    return make


@pytest.fixture
def runner(tmp_path):
    return FakeRunner(tmp_path / "calls")


def short(calls):
    return [[name.removeprefix("cells/toy/amcb/") for name in call] for call in calls]


def test_all_runs_are_made_in_order_and_once(plan, runner):
    made, watcher = plan("random", "margin"), Watcher()
    result = make_runs(made, Inline(runner), watcher, runner=runner)
    assert runner.calls() == [[run_.name] for run_ in made.runs]
    cells = [run_.folder for run_ in made.runs if not run_.is_round0]
    assert list(result.folders) == cells
    assert (result.failed, result.blocked) == ((), ())
    assert watcher.ended_runs == [
        (run_.name, RunState.DONE, 0.5 if run_.is_round0 else 0.7) for run_ in made.runs
    ]
    again = Watcher()
    assert make_runs(made, Inline(runner), again, runner=runner).folders == result.folders
    assert set(again.begun) == {RunState.DONE}
    assert len(runner.calls()) == len(made.runs)


def test_a_half_made_run_goes_on(plan, runner):
    made = plan("random", seeds=[0])
    make_runs(made, Inline(runner), Watcher(), runner=runner)
    log = made.runs[1].folder / "rounds.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:2]) + lines[2][:9])
    watcher = Watcher()
    # A real runner removes a torn line; here the test does.
    log.write_bytes(b"".join(lines[:2]))
    for folder in (made.runs[1].folder / "checkpoints").glob("round_002"):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    make_runs(made, Inline(runner), watcher, runner=runner)
    assert watcher.begun == [RunState.DONE, RunState.WAITING]
    assert watcher.entries[1].before == 2
    assert log.read_bytes().splitlines(keepends=True) == lines


def test_models_of_complete_runs_are_dropped_but_not_of_rounds_0(plan, runner):
    made = plan("random", seeds=[0])

    def kept(run_):
        return {f.name for f in (run_.folder / "checkpoints").rglob("*.safetensors")}

    make_runs(made, Inline(runner), Watcher(), runner=runner, keep_models=True)
    assert kept(made.runs[1]) == {"model.safetensors", "strategy.safetensors"}
    make_runs(made, Inline(runner), Watcher(), runner=runner)
    assert kept(made.runs[0]) == {"model.safetensors", "strategy.safetensors"}
    assert kept(made.runs[1]) == {"strategy.safetensors"}


def test_a_failure_is_recorded_the_rest_goes_on_and_it_is_tried_again(plan, runner):
    made, watcher = plan("fails", "margin"), Watcher()
    result = make_runs(made, Inline(runner), watcher, runner=runner)
    assert [e.run.label for e in result.failed] == ["fails", "fails"]
    assert [f.parent.name for f in result.folders] == ["margin", "margin"]
    entry = result.failed[0]
    record = json.loads((entry.run.folder / "failure.json").read_text())
    assert record["error"] == entry.failure.error == "DataError: no luck with this"
    assert "DataError: no luck" in record["traceback"]
    assert record["time"].endswith("+00:00")
    again = make_runs(made, Inline(runner), Watcher(), runner=runner)
    assert again.failed == ()
    assert len(again.folders) == 4
    assert not (entry.run.folder / "failure.json").exists()


class Broken:
    def key(self, config):
        return None

    def run(self, configs, folders):
        if configs[0].rounds == 0 and configs[0].seed == 0:
            raise RuntimeError("broken")
        return sweep_runs.FakeRunner(folders[0].parent / "calls").run(configs, folders)


def test_what_needs_a_failed_run_does_not_start(plan):
    made = plan("reward-relative")
    result = make_runs(made, Inline(Broken()), Watcher(), runner=Broken())
    assert [e.run.name for e in result.failed] == ["round0/toy/amcb/seed0"]
    assert {e.run.config.seed for e in result.blocked} == {0}
    assert len(result.blocked) == 4
    assert len(result.folders) == 4
    assert not any(e.run.folder.exists() for e in result.blocked)


def test_relative_rewards_come_after_their_baselines(plan, runner):
    made = plan("reward-relative", "random")
    make_runs(made, Inline(runner, slots=3), Watcher(), runner=runner)
    order = [name for call in short(runner.calls()) for name in call]
    for seed in (0, 1):
        last = order.index(f"reward-relative/seed{seed}")
        assert all(order.index(f"{b}/seed{seed}") < last for b in ("gcnal", "badge", "bmmal"))
    # It does not delay runs that do not depend on it.
    assert order.index("random/seed0") < order.index("reward-relative/seed0")


@pytest.mark.parametrize(
    ("together", "slots", "sizes"),
    [
        (None, 2, [4, 4, 4]),  # all seeds of a strategy
        (3, 2, [3, 1, 3, 3, 1, 1]),
        (1, 2, [1] * 12),
        (None, 6, [2] * 6),  # no process idle
    ],
)
def test_seeds_of_a_strategy_go_together(plan, tmp_path, together, slots, sizes):
    runner = FakeRunner(tmp_path / "calls", together=True)
    made = plan("random", "margin", seeds="0-3")
    inline = Inline(runner, slots=slots)
    result = make_runs(made, inline, Watcher(), runner=runner, together=together)
    calls = runner.calls()
    assert len(result.folders) == 8
    assert [len(call) for call in calls] == sizes
    assert all(len({name.rpartition("/")[0] for name in call}) == 1 for call in calls)
    assert sorted(n for call in calls for n in call) == sorted(j.name for j in made.runs)


@pytest.fixture
def processes(tmp_path):
    def make(slots, runner, **options):
        executor = LocalProcesses(slots, tmp_path / "logs", runner=runner, **options)
        stack.enter_context(contextlib.closing(executor))
        return executor

    with contextlib.ExitStack() as stack:
        yield make


def alive(pids):
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z":
                found.add(pid)
    return found


def test_a_process_that_dies_is_replaced_and_its_run_tried_once_more(plan, tmp_path, processes):
    runner = FakeRunner(tmp_path / "calls", together=True)
    made, watcher = plan("dies-once", "dies"), Watcher()
    executor = processes(2, runner)
    result = make_runs(made, executor, watcher, runner=runner, together=2)
    assert [f.parent.name for f in result.folders] == ["dies-once", "dies-once"]
    assert [e.run.label for e in result.failed] == ["dies", "dies"]
    record = json.loads((result.failed[0].run.folder / "failure.json").read_text())
    assert "ended by SIGKILL" in record["error"]
    assert "process" in record["error"].rpartition("see ")[2]
    calls = short(runner.calls())
    assert ["dies-once/seed0", "dies-once/seed1"] in calls
    # The second attempt trains the runs separately, and does not repeat the complete round 0. The second run
    # had no complete round yet. It gets a third attempt, because the second one has completed a round.
    assert (calls.count(["dies/seed0"]), calls.count(["dies/seed1"])) == (1, 2)
    assert newest_lines(result.failed[0].run.folder) == 1
    pids = set(executor.workers.pids)
    executor.close()
    assert not alive(pids)


def test_closing_ends_processes_at_work(plan, tmp_path, processes):
    runner = FakeRunner(tmp_path / "calls", seconds=60)
    executor = processes(1, runner)
    made = plan("random", seeds=[0])

    class Interrupting(Watcher):
        def tick(self):
            if runner.calls():
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_runs(made, executor, Interrupting(), runner=runner)
    pids = set(executor.workers.pids)
    assert alive(pids) == pids
    start = time.monotonic()
    executor.close()
    assert not alive(pids)
    assert time.monotonic() - start < 30


def test_processes_are_born_with_their_share_of_threads_and_no_ctrl_c(
    plan, tmp_path, processes, monkeypatch
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert LocalProcesses(cores() * 2, tmp_path).threads == 1
    assert LocalProcesses(1, tmp_path).threads == cores()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert LocalProcesses(2, tmp_path).where == "2 processes of 3 threads"
    runner = FakeRunner(tmp_path / "calls", seconds=60)
    executor = processes(1, runner)

    class Looking(Watcher):
        def tick(self):
            if runner.calls():
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_runs(plan("random", seeds=[0]), executor, Looking(), runner=runner)
    (pid,) = executor.workers.pids
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert b"OMP_NUM_THREADS=3" in environment
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "OPENBLAS_NUM_THREADS" not in os.environ or os.environ["OPENBLAS_NUM_THREADS"] != "3"
    os.kill(pid, signal.SIGINT)
    time.sleep(0.5)
    assert alive({pid})
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def test_how_many_processes_fit(plan, tmp_path, monkeypatch):
    from rlmba.experiments.sweep import processes as module

    made = plan("random", seeds="0-7")
    assert len(made.runs) == 16
    monkeypatch.setattr(module, "cores", lambda: 8)
    monkeypatch.setattr(module, "available_memory", lambda: 4.5e9)
    assert fitting_processes(made.runs) == 4
    monkeypatch.setattr(module, "available_memory", lambda: 1e12)
    assert fitting_processes(made.runs) == 8
    assert fitting_processes(made.runs[:3]) == 3
    monkeypatch.setattr(module, "available_memory", lambda: 1e8)
    assert fitting_processes(made.runs) == 1
    with pytest.raises(UsageError, match="at least 1 process, got 0"):
        LocalProcesses(0, tmp_path)
