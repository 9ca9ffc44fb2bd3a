"""Selections and comparisons on a Ray cluster of several nodes, one of which is killed during the work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.stalling import stalled
from tests.helpers.sweep_runs import SETTINGS, write_features

pytest.importorskip("ray", reason="Ray is not installed: pip install 'rlmba[ray]'")

pytestmark = pytest.mark.slow
STRATEGY = "tests.helpers.stalling:Stalling"
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def cluster():
    """A node without cores, to which commands connect, and two nodes with two cores each."""
    with pytest.MonkeyPatch.context() as patch:
        # Ray's processes inherit this environment.
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("PYTHONPATH", str(ROOT))
        from ray.cluster_utils import Cluster

        made = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        try:
            made.add_node(num_cpus=2)
            yield made
        finally:
            made.shutdown()


@pytest.fixture
def two_nodes(cluster):
    while len(cluster.worker_nodes) < 2:
        cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    return cluster


def kill_node(cluster, node_id):
    (node,) = [n for n in cluster.worker_nodes if n.node_id == node_id]
    cluster.remove_node(node, allow_graceful=False)


@pytest.fixture
def command(two_nodes):
    """A function that starts `rlmba` with the cluster's address."""
    started = []

    def start(*arguments):
        full = [sys.executable, "-m", "rlmba", *map(str, arguments), "--ray", two_nodes.address]
        process = subprocess.Popen(
            full,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def shards(tmp_path, rng):
    folder = tmp_path / "pool"
    folder.mkdir()
    for k, n in enumerate((13_000, 50)):
        logits = rng.normal(size=(n, 4)).astype(np.float32)
        np.savez(
            folder / f"part-{k}.npz", ids=np.array([f"{k}-{i}" for i in range(n)]), logits=logits
        )
    return folder


def run_alone(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "rlmba", *map(str, arguments)],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("lost", ["process", "process that hangs", "node"])
def test_a_selection_survives_the_loss_of(lost, two_nodes, command, shards, tmp_path):
    flag, out = tmp_path / "flag", tmp_path / "a.csv"
    given = "select", "--pool", shards, "-n", 40, "--strategy", STRATEGY, "-o", f"flag={flag}"
    process = command(*given, "--out", out, "--processes", 3, "--timeout", 20)
    pid, node = stalled(flag, process)
    if lost == "node":
        kill_node(two_nodes, node)
    else:
        os.kill(pid, signal.SIGKILL if lost == "process" else signal.SIGSTOP)
    printed, complaint = process.communicate(timeout=300)
    assert process.returncode == 0, complaint
    assert complaint == ""
    lines = printed.splitlines()
    assert lines[1].startswith(
        "3 processes on 2 nodes of the Ray cluster divide the rows, each with 1 "
    )
    hangs = "another process of this run does not answer: it hangs"
    assert lines[2].startswith(hangs if lost == "process that hangs" else "process 1 on ")
    assert lines[2].endswith("; selecting again from the beginning")
    left = "2 processes on 1 node" if lost == "node" else "3 processes on 2 nodes"
    assert lines[-3].startswith(left)
    run_alone(*given, "--out", tmp_path / "b.csv")
    assert out.read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_an_error_in_the_processes_is_printed_once(command, shards, tmp_path):
    with np.load(shards / "part-1.npz") as held:
        arrays = dict(held)
    arrays["logits"][7, 1] = np.nan
    np.savez(shards / "part-1.npz", **arrays)
    given = "select", "--pool", shards, "-n", 40, "--strategy", "badge", "--out", tmp_path / "a.csv"
    _, complaint = (process := command(*given, "--processes", 2)).communicate(timeout=300)
    assert process.returncode == 1
    assert complaint.count("error:") == 1
    assert "part-1.npz, row 7: expected finite numbers" in complaint
    assert not (tmp_path / "a.csv").exists()
    _, complaint = (process := command(*given, "--processes", 99)).communicate(timeout=300)
    assert process.returncode == 2
    assert "--processes: expected 1 to 4, the cores of the Ray cluster, got 99" in complaint


def test_a_comparison_continues_without_a_lost_node(two_nodes, command, tmp_path):
    file, flag = write_features(tmp_path / "toy.npz"), tmp_path / "flag"
    options = {"strategy": STRATEGY, "options": {"flag": str(flag), "at": 2}}
    study = tmp_path / "study.yaml"
    study.write_text(json.dumps({"datasets": [str(file)], "strategies": [options], "seeds": "0-1"}))
    given = "compare", study, *SETTINGS, "--together", 1, "--jobs", 2
    process = command(*given, "--output", tmp_path / "far")
    _, node = stalled(flag, process)
    kept = {p: p.read_bytes() for p in tmp_path.glob("far/cells/**/rounds.jsonl")}
    assert sum(text.count(b"\n") for text in kept.values()) >= 2
    kill_node(two_nodes, node)
    _, complaint = process.communicate(timeout=500)
    assert process.returncode == 0, complaint
    for path, text in kept.items():
        assert path.read_bytes().startswith(text)
    run_alone(*given, "--output", tmp_path / "near")
    for path in sorted(tmp_path.glob("near/cells/**/curve.csv")):
        far = tmp_path / "far" / path.relative_to(tmp_path / "near")
        assert far.read_bytes() == path.read_bytes()
