"""Folders and data that have been moved or copied between the parts of a run."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from rlmba.config import RunConfig
from rlmba.errors import CheckpointError, DataError, RunFolderError
from rlmba.experiments import make_report
from rlmba.learner import Trained, configure, run
from rlmba.runfolder.store import RunStore, read_run
from rlmba.training import load_tensors, save_tensors
from tests.helpers.interrupting import StopAfter, Stopped


def write_data(path, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(80) % 4
    image = rng.normal(size=(80, 6)).astype(np.float32) + y[:, None]
    sound = rng.normal(size=(80, 5)).astype(np.float32) - y[:, None]
    path.parent.mkdir(exist_ok=True, parents=True)
    np.savez(path, image=image, sound=sound, y=y, split=(np.arange(80) % 5 == 4).astype(np.uint8))
    return path


def config(data, **more):
    values = {"rounds": 2, "initial_labels": 8, "batch_size": 6, "epochs": 1, "device": "cpu"}
    return RunConfig.model_validate(
        {"dataset": "features", "data": data, "model": {"width": 8}, **values, **more}
    )


def interrupted(data, folder, **more):
    with pytest.raises(Stopped):
        run(config(data, **more), folder, observer=StopAfter(1))


def selected(folder):
    return [p.read_bytes() for p in sorted((folder / "selected").iterdir())]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run's selections."""
    base = tmp_path_factory.mktemp("whole")
    return selected(run(config(write_data(base / "x.npz")), base / "r").path)


def test_a_run_folder_that_was_moved(tmp_path, whole):
    interrupted(write_data(tmp_path / "x.npz"), tmp_path / "a")
    moved = shutil.move(tmp_path / "a", tmp_path / "b")
    run(configure({}, resume_from=moved), moved, resume=True)
    assert selected(moved) == whole
    assert make_report([moved], moved / "report").files
    assert Trained.load(moved).round == 2


def test_data_that_were_moved(tmp_path, whole):
    folder = tmp_path / "r"
    interrupted(write_data(tmp_path / "old" / "x.npz"), folder)
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(DataError, match=r"old/x\.npz: no such file .*new path with --data"):
        run(configure({}, resume_from=folder), folder, resume=True)
    given = configure({"data": tmp_path / "new" / "x.npz"}, resume_from=folder)
    with pytest.raises(Stopped):
        run(given, folder, resume=True, observer=StopAfter(2))
    assert read_run(folder).config.data == tmp_path / "new" / "x.npz"
    run(configure({}, resume_from=folder), folder, resume=True)
    assert selected(folder) == whole


def test_other_data_under_another_name_are_refused(tmp_path):
    folder = tmp_path / "r"
    interrupted(write_data(tmp_path / "x.npz"), folder)
    other = write_data(tmp_path / "other" / "x.npz", seed=1)
    with pytest.raises(RunFolderError, match="run on data that differ"):
        run(configure({"data": other}, resume_from=folder), folder, resume=True)
    with pytest.raises(RunFolderError, match="seed is 0 there and 1 here"):
        run(configure({"seed": 1}, resume_from=folder), folder, resume=True)


def test_initial_ids_that_were_moved(tmp_path):
    data = write_data(tmp_path / "x.npz")
    ids = tmp_path / "ids.txt"
    ids.write_text("".join(f"x-{i:06d}\n" for i in (0, 1, 2, 3, 5, 6, 7, 8)))
    interrupted(data, tmp_path / "r", initial_ids=ids)
    ids.rename(moved := tmp_path / "moved.txt")
    given = configure({"initial_ids": moved}, resume_from=tmp_path / "r")
    assert len(run(given, tmp_path / "r", resume=True).records) == 3


@pytest.mark.parametrize("place", ["d/x.npz", "d/r/x.npz", "x.npz"])
def test_data_that_move_with_the_folder_are_found(tmp_path, whole, place):
    """Paths next to the run folder, inside, or elsewhere keep their meaning as seen from it."""
    data, base = tmp_path / "one" / place, tmp_path / "one"
    folder = base / "d" / "r"
    interrupted(write_data(base / "x" / "x.npz"), folder)
    shutil.copy(base / "x" / "x.npz", data)
    given = configure({"data": data}, resume_from=folder)
    with pytest.raises(Stopped):
        run(given, folder, resume=True, observer=StopAfter(2))
    shutil.move(base, tmp_path / "two")
    folder = tmp_path / "two" / "d" / "r"
    assert read_run(folder).config.data == tmp_path / "two" / place
    for more in ({}, {"tracking": []}):
        run(configure(more, resume_from=folder), folder, resume=True)
    assert selected(folder) == whole


def test_baselines_and_policies_that_move_with_a_comparison(tmp_path):
    base, folder = tmp_path / "one", tmp_path / "one" / "cells" / "rlmba"
    baseline, policy = base / "cells" / "badge", base / "policy.safetensors"
    baseline.mkdir(parents=True)
    policy.touch()
    stored = config(
        write_data(tmp_path / "x.npz"),
        reward={"kind": "relative", "curves": [baseline]},
        strategy_options={"policy_file": str(policy)},
    )
    with RunStore.create(folder, stored, info={}, environment={}, split={}):
        pass
    shutil.copytree(base, tmp_path / "two")
    read = read_run(tmp_path / "two" / "cells" / "rlmba").config
    assert read.reward.curves == [tmp_path / "two" / "cells" / "badge"]
    assert read.strategy_options["policy_file"] == str(policy)  # it is still there
    assert read.data == tmp_path / "x.npz"
    shutil.rmtree(base)
    read = read_run(tmp_path / "two" / "cells" / "rlmba").config
    assert read.strategy_options["policy_file"] == str(tmp_path / "two" / "policy.safetensors")


def test_a_checkpoint_belongs_to_its_run_wherever_files_are(tmp_path):
    file = tmp_path / "t.safetensors"
    identity = {"seed": 0, "data": "/a", "reward": {"curves": ["/b"]}}
    save_tensors(file, {"x": torch.ones(2)}, config=identity)
    moved = {**identity, "data": "/c", "reward": {"curves": ["/d", "/e"]}}
    assert load_tensors(file, config=moved)["x"].tolist() == [1, 1]
    with pytest.raises(CheckpointError, match=r"seed was 0 and is 1$"):
        load_tensors(file, config={**moved, "seed": 1})
