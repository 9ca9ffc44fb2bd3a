"""`rlmba outputs --ray`: real clusters on this machine, whose nodes and actors are killed."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from rlmba.errors import DataError
from rlmba.project.outputs import write_outputs
from tests.helpers.trained_runs import new_samples, shards, small_run

pytest.importorskip("ray", reason="Ray is not installed: pip install 'rlmba[ray]'")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("ray"))


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # of the actors, which inherit it from their node
        made = Cluster(initialize_head=True, head_node_args=head)
        yield made
        made.shutdown()


@pytest.fixture
def new(tmp_path):
    return new_samples(tmp_path / "new.npz", 200)


@pytest.mark.usefixtures("one_thread")  # as the actors: the last bits of sums depend on it
def test_a_node_that_is_lost_is_done_without(cluster, folder, new, tmp_path):
    """One of two nodes is killed after the first shard; the other one computes the rest."""
    lost = [cluster.add_node(num_cpus=1)]
    cluster.wait_for_nodes()

    def kill(done, total):
        if done and lost:
            cluster.remove_node(lost.pop(), allow_graceful=False)

    given = {"data": [new], "rows_per_shard": 10}
    summary = write_outputs(folder, tmp_path / "pool", **given, ray=cluster.address, progress=kill)
    assert not lost
    assert summary.rows == 200
    assert not list(tmp_path.glob("pool/.*"))
    write_outputs(folder, tmp_path / "alone", **given)
    assert shards(tmp_path / "pool") == shards(tmp_path / "alone")


def actors(cluster):
    """Ids of the processes that are actors of the cluster's first node."""
    raylet = cluster.head_node.all_processes["raylet"][0].process.pid
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            title = (status.parent / "cmdline").read_bytes()
            if parent == raylet and title.startswith(b"ray::_Server"):
                found.append(int(status.parent.name))
    return found


def test_actors_that_die_are_replaced(cluster, folder, new, tmp_path):
    """The only actor is killed from outside after the first shard, and its successor after a later one."""
    killed = []

    def kill(done, total):
        alive = [pid for pid in actors(cluster) if pid not in killed]
        if done and len(killed) < 2 and alive:  # the successor may not have started yet
            (pid,) = alive
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    summary = write_outputs(
        folder, tmp_path / "pool", data=[new], rows_per_shard=10, ray=cluster.address, progress=kill
    )
    assert (summary.rows, summary.lost) == (200, 2)
    assert killed[0] != killed[1]


def test_what_actors_raise_is_raised_here(cluster, folder, new, tmp_path):
    with np.load(new) as held:
        given = dict(held)

    def change(done, total):
        if not done:
            np.savez(new, **{**given, "ids": np.array([f"other {i}" for i in range(200)])})

    with pytest.raises(
        DataError, match="expected the 200 samples for which the shards were planned"
    ):
        write_outputs(
            folder, tmp_path / "pool", data=[new], ray=cluster.address, processes=1, progress=change
        )
