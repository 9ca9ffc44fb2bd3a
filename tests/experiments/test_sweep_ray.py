from __future__ import annotations

import contextlib
import json
import socket
import sys

import pytest

from rlmba.errors import UsageError
from rlmba.experiments.sweep import RayTasks, load_sweep, make_plan, run_sweep
from rlmba.experiments.sweep.work import WorkUnit
from tests.helpers.sweep_runs import TINY, newest_lines, write_features

pytest.importorskip("ray", reason="Ray is not installed: pip install 'rlmba[ray]'")


class Deadly:
    """Pickled by value: Ray's processes cannot import this module."""

    def key(self, config):
        return None

    def run(self, configs, folders):
        import os

        os._exit(9)


@pytest.mark.slow
def test_a_comparison_on_a_real_ray(tmp_path):
    file = write_features(tmp_path / "toy.npz")
    variants = ["random", {"strategy": "margin", "settings": {"rounds": 1}}]
    values = {"datasets": [str(file)], "strategies": variants, "seeds": "0-1", "settings": TINY}
    plan = make_plan(load_sweep(values), tmp_path / "out")
    spoiled = tmp_path / "out" / "cells/toy/amcb/margin/seed1"

    class Spoiling:
        """Puts something foreign into a run's folder before it starts: that run fails."""

        def begin(self, entries, where):
            assert where == "2 Ray tasks on 1 node"
            spoiled.mkdir(parents=True)
            (spoiled / "foreign.txt").touch()

        def ended(self, entry): ...

        def tick(self): ...

    result = run_sweep(plan, tmp_path / "out", ray="local", jobs=2, observer=Spoiling())
    names = [f"{f.parent.name}/{f.name}" for f in result.folders]
    assert names == ["random/seed0", "margin/seed0", "random/seed1"]
    assert [newest_lines(folder) for folder in result.folders] == [3, 2, 3]
    assert [e.run.folder for e in result.failed] == [spoiled]
    record = json.loads((spoiled / "failure.json").read_text())
    assert "files that are not a run" in record["error"]


@pytest.mark.slow
def test_a_task_that_dies_is_an_end_with_a_reason(tmp_path):
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        with contextlib.closing(RayTasks("local", jobs=1, runner=Deadly())) as tasks:
            tasks.start(unit := WorkUnit(()))
            (ended,) = [e for _ in range(300) for e in tasks.wait(0.2)][:1]
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert ended.unit == unit
    assert ended.died.startswith("its Ray task has died (WorkerCrashedError: ")


def test_no_cluster_is_said():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    with pytest.raises(UsageError, match=f"--ray: expected the address.*'{address}': .*refused"):
        RayTasks(address)
    with pytest.raises(UsageError, match="at least 1 task, got 0"):
        RayTasks("local", jobs=0)
