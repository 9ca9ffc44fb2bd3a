"""A project's folder, and its manifest, in another place than before."""

from __future__ import annotations

import shutil

import pytest

from rlmba.errors import DataError
from rlmba.project.folder import open_project
from rlmba.project.state import status
from tests.helpers.people_data import asked, fill, made, round_of, rows_of, taken, write_manifest


@pytest.fixture
def begun(tmp_path):
    """A project with one round done and one asked for, and the truth."""
    rows, truth = rows_of()
    (tmp_path / "one").mkdir()
    manifest = write_manifest(tmp_path / "one" / "m.jsonl", rows)
    folder = made(tmp_path / "one" / "p", manifest)
    round_of(folder, truth)
    asked(folder)
    return folder, truth


def goes_on(folder, truth, rounds):
    status(folder)
    fill(folder, truth)
    taken(folder)
    with open_project(folder) as project:
        assert project.rounds == rounds
    assert asked(folder).batch is not None


def test_the_folder_alone(begun, tmp_path):
    folder, truth = begun
    moved = shutil.move(folder, tmp_path / "elsewhere")
    goes_on(moved, truth, 2)


def test_with_its_manifest(begun, tmp_path):
    folder, truth = begun
    shutil.copytree(folder.parent, tmp_path / "two")
    shutil.rmtree(folder.parent)
    goes_on(tmp_path / "two" / "p", truth, 2)


def test_the_manifest_alone(begun, tmp_path):
    folder, truth = begun
    manifest = folder.parent / "m.jsonl"
    manifest.rename(tmp_path / "m.jsonl")
    status(folder)
    fill(folder, truth)
    with pytest.raises(DataError, match=r"m\.jsonl: no such file .*as data in a project's config"):
        taken(folder)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace(str(manifest), str(tmp_path / "m.jsonl")))
    goes_on(folder, truth, 2)
