"""Rounds that wait while Label Studio, the folder or an annotation cannot be used."""

from __future__ import annotations

import contextlib

import pytest

from rlmba.errors import AnnotatorError, RunFolderError, UsageError
from rlmba.project import open_project
from rlmba.project.live import _LiveRounds, serve_label_studio
from rlmba.runfolder.store import read_run
from tests.helpers.people_data import fill, made, rows_of, write_manifest
from tests.project.test_loop import Watching


class Waiting:
    """Repairs something whenever the rounds wait."""

    is_connected = False

    def __init__(self, *repairs):
        self.repairs = list(repairs)

    def wait(self, seconds):
        self.repairs.pop(0)()

    def tasks_deleted(self):
        return False


@pytest.fixture
def project(tmp_path):
    rows, truth = rows_of()
    return made(tmp_path / "p", write_manifest(tmp_path / "m.jsonl", rows)), truth


def rounds(folder, said, *repairs):
    return _LiveRounds(folder, Watching(), Waiting(*repairs), said.append)


def test_the_rounds_wait_until_a_label_can_be_used(project):
    folder, truth = project
    said = []
    wrong = {id_: "kitten" if label == "cat" else label for id_, label in truth.items()}
    live = rounds(folder, said, lambda: None, lambda: fill(folder, truth))
    assert live.ask() is None
    fill(folder, wrong)
    assert "kitten" in live.answers()[2]
    live.learn()
    assert len(said) == 1  # the same problem is reported once
    assert said[0].startswith("waiting: ")
    assert "kitten" in said[0]
    assert [r.labels for r in read_run(folder).records] == [9]


def test_the_rounds_wait_for_another_process_that_writes_the_folder(project):
    folder, truth = project
    said = []
    with contextlib.ExitStack() as held:
        held.enter_context(open_project(folder))
        live = rounds(folder, said, held.close)
        assert live.ask() is None
        fill(folder, truth)
        held.enter_context(open_project(folder))
        live._live.repairs.append(held.close)
        live.learn()
    assert [r.labels for r in read_run(folder).records] == [9]
    assert "process" in said[0]


def test_a_server_that_is_down_ends_the_command_at_its_start_only(project, monkeypatch):
    folder, _ = project
    from rlmba.project import rounds as module

    def down(project, announce):
        raise AnnotatorError("Label Studio cannot be reached")

    said = []
    real = module.ask
    monkeypatch.setattr(module, "ask", down)
    live = rounds(folder, said, lambda: monkeypatch.setattr(module, "ask", real))
    with pytest.raises(AnnotatorError, match="cannot be reached"):
        live.ask()
    live._began = True
    assert live.ask() is None
    assert said == ["waiting: Label Studio cannot be reached"]


def test_a_damaged_folder_ends_the_command(project):
    folder, _ = project
    live = rounds(folder, [])
    assert live.ask() is None
    (folder / "pending.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"pending\.json"):
        live.learn()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "whose annotator is labelstudio with a url"),
        ({"annotator": "labelstudio", "annotator_options": {"url": None}}, "with a url"),
    ],
)
def test_other_projects_are_refused(tmp_path, options, said):
    rows, _ = rows_of(40)
    folder = made(tmp_path / "p", write_manifest(tmp_path / "m.jsonl", rows), **options)
    with pytest.raises(UsageError, match=said):
        serve_label_studio(folder, Watching(), say=print)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"secret": "short"}, "--secret: expected at least 16"),
        ({"secret": "not a secret with blanks"}, "--secret: expected at least 16"),
        ({"address": "models.example:9090"}, "--address: expected an address"),
        ({"address": "http://ada:x@models.example"}, "got one with a user name"),
        ({"address": "http://["}, "--address: expected an address"),
        ({"host": "256.1.1.1"}, "host: expected a name or an address of this machine"),
    ],
)
def test_bad_options_are_refused(tmp_path, options, said):
    rows, _ = rows_of(40)
    manifest = write_manifest(tmp_path / "m.jsonl", rows)
    folder = made(tmp_path / "p", manifest, annotator="labelstudio")
    with pytest.raises(UsageError, match=said):
        serve_label_studio(folder, Watching(), say=print, **options)
