"""A project's folder that came from somebody else runs nothing and reaches nobody unasked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings

import pytest

from rlmba import trust
from rlmba.annotators import acts
from rlmba.annotators.browser import serve
from rlmba.cli import main
from rlmba.errors import PluginError, RunFolderError, StorageError, TrustError, UsageError
from rlmba.project.folder import open_project, read_project
from rlmba.project.rounds import loop
from rlmba.project.state import status
from tests.helpers.people_data import QUICK, asked, fill, made, rows_of, taken, write_manifest

OWN = """
from pathlib import Path
from rlmba.annotators import Tickets

(Path(__file__).parent / "imported").touch()

class Knows:
    def __init__(self, folder):
        self.tickets = Tickets(Path(folder) / "tickets" / "elsewhere")

    def request(self, batch):
        return self.tickets.write(batch)

    def collect(self, ticket):
        batch, _ = self.tickets.read(ticket)
        return {q.id: "cat" if q.rank % 2 else "dog" for q in batch.questions}
"""


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    """A user without trust."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    return tmp_path / "settings" / "rlmba" / "trusted.json"


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """The file that importing the module ``knows_all`` makes."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "knows_all.py").write_text(OWN)
    monkeypatch.syspath_prepend(modules)
    yield modules / "imported"
    sys.modules.pop("knows_all", None)


@pytest.fixture
def manifest(tmp_path):
    rows, _ = rows_of(40)
    return write_manifest(tmp_path / "m.jsonl", rows)


@pytest.fixture
def project(tmp_path, manifest):
    return made(tmp_path / "p", manifest)


def rename_annotator(folder, name, options="{}"):
    file = folder / "config.yaml"
    text = file.read_text().replace("annotator: file", f"annotator: {name}")
    file.write_text(text.replace("annotator_options: {}", f"annotator_options: {options}"))


class TestCode:
    def test_a_config_runs_nothing_until_its_user_allows_it(self, project, marker, capsys):
        rename_annotator(project, "knows_all:Knows")
        with pytest.raises(TrustError, match=rf"run knows_all:Knows.*`rlmba trust {project}`"):
            asked(project)
        assert main(["next", str(project)]) == 1
        assert "asks to run knows_all:Knows" in capsys.readouterr().err
        assert not marker.exists()
        assert main(["trust", str(project)]) == 0
        assert capsys.readouterr().out == "allowed from now on:\n    run knows_all:Knows\n"
        assert not marker.exists()
        assert asked(project).ticket == "round_000"
        assert marker.exists()

    def test_another_name_in_the_config_asks_again(self, project, marker):
        rename_annotator(project, "knows_all:Knows")
        trust.allow(project, ["run knows_all:Other"])
        with pytest.raises(TrustError, match="run knows_all:Knows"):
            asked(project)
        assert not marker.exists()

    def test_what_is_typed_is_allowed_for_the_folder_it_makes(self, tmp_path, manifest, marker):
        arguments = ["init", str(tmp_path / "q"), "--manifest", str(manifest)]
        quick = [part for setting in QUICK for part in ("--set", setting)]
        assert main([*arguments, "--set", "project.annotator=knows_all:Knows", *quick]) == 0
        assert len(asked(tmp_path / "q").batch.questions) > 0

    def test_answers_of_ones_own_class_are_collected_wherever_its_tickets_lie(
        self, tmp_path, manifest, marker
    ):
        folder = made(tmp_path / "q", manifest, annotator="knows_all:Knows")
        for round_ in (0, 1):
            asked(folder)
            assert taken(folder).record.round == round_
        with open_project(folder) as project:
            assert project.tickets() == [
                ("knows_all:Knows", "round_000"),
                ("knows_all:Knows", "round_001"),
            ]

    def test_what_is_no_class_is_refused_without_calling_it(self, project, monkeypatch):
        called = []
        monkeypatch.setattr(os, "system", called.append)
        rename_annotator(project, "os:system")
        trust.allow(project, ["run os:system"])
        with pytest.raises(UsageError, match="expected a class with the methods request and coll"):
            asked(project)
        assert called == []

    @pytest.mark.parametrize(
        "name", ["' knows_all:Knows'", '"knows_all:Knows\\n"', "x/knows_all:Knows"]
    )
    def test_no_way_of_writing_a_name_passes_by(self, project, marker, name):
        rename_annotator(project, name)
        with pytest.raises(UsageError, match="written as module:Class"):
            asked(project)
        assert not marker.exists()

    def test_folders_of_tickets_name_nobody(self, project, marker, monkeypatch):
        called = []
        monkeypatch.setattr(os, "system", called.append)
        asked(project)
        ticket = (project / "tickets" / "file" / "round_000.json").read_bytes()
        for name in ("os:system", "knows_all:Knows", "..:x"):
            (project / "tickets" / name).mkdir()
            (project / "tickets" / name / "round_000.json").write_bytes(ticket)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert taken(project).asked > 0
            assert status(project).trouble == ""
        assert (called, marker.exists()) == ([], False)

    @pytest.mark.parametrize(
        ("pending", "error", "message"),
        [
            (
                {"round": 0, "annotator": "knows_all:Knows", "ticket": "round_000"},
                TrustError,
                "run knows_all",
            ),
            ({"round": 0, "annotator": "../x:y", "ticket": "round_000"}, RunFolderError, "by name"),
            (
                {"round": 0, "annotator": "file", "ticket": "../../x"},
                RunFolderError,
                "by name|damaged",
            ),
            ({"round": 0, "annotator": "file", "ticket": "/etc/x"}, RunFolderError, "by name"),
            ({"round": 0, "annotator": "file", "ticket": 3}, RunFolderError, "ticket: expected"),
            ({"ticket": ""}, RunFolderError, "by name"),
            (["file", "round_000"], RunFolderError, "expected an object"),
            (
                {"round": 0, "annotator": "nobody", "ticket": "round_000"},
                UsageError,
                "expected one of",
            ),
        ],
    )
    def test_a_pending_file_of_somebody_else(self, project, marker, pending, error, message):
        asked(project)
        file = project / "pending.json"
        if isinstance(pending, dict):
            pending = {**json.loads(file.read_text()), **pending}
        file.write_text(json.dumps(pending))
        with pytest.raises(error, match=message):
            taken(project)
        assert not marker.exists()
        file.unlink()
        asked(project)
        assert taken(project).asked > 0

    def test_what_ones_own_class_does_wrong_is_its_own_fault(self, tmp_path, manifest, marker):
        folder = made(tmp_path / "q", manifest, annotator="knows_all:Knows")
        asked(folder)
        knows = sys.modules["knows_all"].Knows
        for wrong, message in (
            (
                lambda self, ticket: {"s/000": 3},
                "expected collect to return ids as text and labels",
            ),
            (lambda self, ticket: None, "expected collect to return a mapping"),
            (lambda self, ticket: 1 / 0, "from the module 'knows_all', raised ZeroDivisionError"),
        ):
            knows.collect = wrong
            with pytest.raises(PluginError, match=f"annotator 'knows_all:Knows'.*{message}"):
                taken(folder)
        knows.request = lambda self, batch: "../../ticket"
        with pytest.raises(PluginError, match="expected request to return a file name without"):
            asked(folder)


class TestFolders:
    def test_a_link_is_the_folder_and_a_copy_is_another(self, project, tmp_path, marker):
        rename_annotator(project, "knows_all:Knows")
        (tmp_path / "link").symlink_to(project)
        trust.allow(tmp_path / "link", ["run knows_all:Knows"])
        assert list(trust.allowed()) == [str(project.resolve())]
        shutil.copytree(project, tmp_path / "copy")
        with pytest.raises(TrustError):
            asked(tmp_path / "copy")
        assert not marker.exists()
        assert asked(project).ticket == "round_000"

    def test_listing_and_taking_back(self, tmp_path, capsys, settings):
        assert main(["trust", "--list"]) == 0
        trust.allow(tmp_path / "gone", ["run a:B", "write the file 'x'"])
        trust.allow(tmp_path / "other", ["run c:D"])
        assert main(["trust", "--list"]) == 0
        expected = (
            f"{tmp_path / 'gone'}\n    run a:B\n    write the file 'x'\n{tmp_path / 'other'}\n"
        )
        assert capsys.readouterr().out == expected + "    run c:D\n"
        assert main(["trust", str(tmp_path / "gone"), "--remove"]) == 0
        assert main(["trust", str(tmp_path / "gone"), "--remove"]) == 0
        out = capsys.readouterr().out
        assert out.startswith("no longer allowed:\n    run a:B\n")
        assert out.endswith("nothing was allowed\n")
        assert list(trust.allowed()) == [str(tmp_path / "other")]
        assert main(["trust"]) == 2
        assert main(["trust", str(tmp_path / "gone")]) == 2

    def test_a_project_that_asks_for_nothing(self, project, capsys, settings):
        assert main(["trust", str(project)]) == 0
        assert capsys.readouterr().out == "it asks for nothing\n"
        assert not settings.exists()

    @pytest.mark.parametrize(
        "text",
        ["", "[]", "{}", '{"format": 1, "folders": {"/p": "run a:B"}}', '{"format": 2}', "\x00"],
    )
    def test_a_damaged_file_trusts_nobody(self, tmp_path, settings, text):
        settings.parent.mkdir(parents=True)
        settings.write_text(text)
        with pytest.raises(TrustError, match="delete it"):
            trust.require(tmp_path, ["run a:B"])
        trust.require(tmp_path, [])

    def test_trust_of_another_user_is_not_this_users(self, tmp_path, monkeypatch, settings):
        trust.allow(tmp_path, ["run a:B"])
        trust.require(tmp_path, ["run a:B"])
        if os.getuid() == 0:  # whose files count for everybody
            os.chown(settings, 1234, -1)
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        with pytest.raises(TrustError, match="belongs to another user"):
            trust.require(tmp_path, ["run a:B"])

    def test_settings_that_cannot_be_written(self, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
        with pytest.raises(StorageError, match="set XDG_CONFIG_HOME"):
            trust.allow(tmp_path, ["run a:B"])


class TestLinks:
    """Sub-folders that lead out of a folder, where files of known names would be written or deleted."""

    @pytest.mark.parametrize("link", ["checkpoints", "tickets", "answers", "tickets/file"])
    def test_nothing_is_written_through_them_until_allowed(self, project, tmp_path, link, capsys):
        elsewhere = tmp_path / "elsewhere"
        (elsewhere / "round_000").mkdir(parents=True)
        place = project / link
        place.parent.mkdir(exist_ok=True)
        if place.exists():
            place.rmdir()
        place.symlink_to(elsewhere)
        message = f"write through the link '{link}' to '{elsewhere}'"
        with pytest.raises(TrustError, match=message):
            asked(project)
        with pytest.raises(TrustError, match=message):
            serve(project, port=0, say=print)
        assert [p.name for p in elsewhere.iterdir()] == ["round_000"]
        assert main(["trust", str(project)]) == 0
        assert message in capsys.readouterr().out
        assert asked(project).ticket == "round_000"

    def test_links_within_the_folder_and_the_folder_itself_may_be_links(self, project, tmp_path):
        (project / "tickets").mkdir()
        (project / "answers").symlink_to("tickets")
        (tmp_path / "link").symlink_to(project)
        assert trust.links_out(tmp_path / "link") == []
        assert asked(tmp_path / "link").ticket == "round_000"

    def test_an_old_reports_list_deletes_nothing_elsewhere(self, tmp_path):
        from rlmba.experiments.report import _listed

        victim, report = tmp_path / "victim", tmp_path / "report"
        victim.mkdir()
        (report / "tables").mkdir(parents=True)
        (report / "figures").symlink_to(victim)
        names = [
            "a.md",
            "tables/b.md",
            "figures/x",
            "../victim/x",
            str(victim / "x"),
            "..",
            "a\0/b",
        ]
        for kept, listed in ((names[:6], {"a.md", "tables/b.md"}), (names, set())):
            (report / "report.json").write_text(json.dumps({"files": kept}))
            assert _listed(report) == listed


class TestReachingOut:
    """Besides code: where an annotator's options, out of a file, would send, write or listen."""

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            (
                "labelstudio",
                "{url: 'https://evil.example'}",
                "the key in '.LABEL_STUDIO_API_KEY' to 'https",
            ),
            (
                "labelstudio",
                "{key_variable: AWS_SECRET_ACCESS_KEY}",
                "key in '.AWS_SECRET_ACCESS_KEY'",
            ),
            (
                "labelstudio",
                "{key_file: /home/me/.token}",
                "key in '/home/me/.token' to 'http://localhost",
            ),
            (
                "file",
                "{path: /srv/elsewhere/labels.csv}",
                "write the file '/srv/elsewhere/labels.csv'",
            ),
            ("file", "{path: ../labels.csv}", "write the file"),
            (
                "browser",
                "{host: 0.0.0.0}",
                "serve the labeling page to other machines, on '0.0.0.0'",
            ),
        ],
    )
    def test_options_out_of_a_file_are_to_be_allowed(self, project, name, options, message):
        rename_annotator(project, name, options)
        with pytest.raises(TrustError, match=f"asks to .*{message}"):
            asked(project)
        assert read_project(project).acts()
        trust.allow(project, read_project(project).acts())
        trust.require(project, read_project(project).acts())

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ("  features_folder: {}\n  frozen: true", "keep features in the folder '{}'"),
            ("  frozen: false\ndataset_options: {{media: {}}}", "keep media in the folder '{}'"),
        ],
    )
    def test_what_a_config_keeps_elsewhere_is_to_be_allowed(
        self, project, tmp_path, setting, message
    ):
        file, place = project / "config.yaml", tmp_path / "elsewhere"
        text = file.read_text().replace("  features_folder: null\n", "")
        if "dataset_options" in setting:
            text = text.replace("dataset_options:", "model_options:", 1)
            head, _, rest = text.partition("model_options:")
            text = head + rest[rest.index("\nlabel:") + 1 :]
        file.write_text(text.replace("  frozen: false", setting.format(place)))
        with pytest.raises(TrustError, match=message.format(place)):
            asked(project)
        assert not place.exists()
        assert read_project(project).acts() == [message.format(place)]
        trust.allow(project, read_project(project).acts())
        with open_project(project):
            pass

    def test_a_place_for_features_that_is_typed_is_allowed(self, tmp_path, manifest):
        place = tmp_path / "features"
        settings = (f"model.features_folder={place}", "model.frozen=true")
        assert asked(made(tmp_path / "q", manifest, *settings)).ticket == "round_000"
        inside = f"model.features_folder={tmp_path / 'r' / 'features'}"
        assert read_project(made(tmp_path / "r", manifest, inside)).acts() == []

    def test_places_that_are_none(self, tmp_path):
        (tmp_path / "loop.csv").symlink_to("loop.csv")
        assert acts("file", tmp_path, {"path": "loop.csv"}) == []
        assert acts("file", tmp_path, {"path": "a\0.csv"}) == ["write the file 'a\\x00.csv'"]

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("browser", {}),
            ("browser", {"host": "localhost", "port": 0}),
            ("file", {}),
            ("file", {"path": "sub/labels.csv"}),
            ("labelstudio", {}),
            ("labelstudio", {"url": None, "export": "/srv/export.json"}),
            ("oracle", {"truth": "/srv/truth.csv"}),
        ],
    )
    def test_what_stays_in_the_folder_and_on_this_machine_asks_for_nothing(
        self, tmp_path, name, options
    ):
        assert acts(name, tmp_path, options) == []

    def test_the_page_is_not_opened_to_others_by_a_file(self, project):
        rename_annotator(project, "browser", "{host: 0.0.0.0, port: 0}")
        with pytest.raises(TrustError, match=r"0\.0\.0\.0"):
            serve(project, say=print)
        with pytest.raises(TrustError, match=r"0\.0\.0\.0"):
            loop(project, None)

    def test_ones_own_options_are_allowed_where_they_are_typed(self, tmp_path, manifest):
        place = tmp_path / "desk" / "labels.csv"
        folder = made(tmp_path / "q", manifest, annotator_options={"path": str(place)})
        asked(folder)
        assert place.exists()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["config.yaml", "answers/round_000.jsonl", "tickets/x/lock"])
def test_no_command_waits_for_a_pipe_in_a_files_place(project, name):
    if name.startswith("answers"):
        rename_annotator(project, "browser")
        asked(project)
    file = project / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    os.mkfifo(file)
    if name.startswith("tickets"):
        assert status(project)
        return
    with pytest.raises((RunFolderError, StorageError), match="expected a file, found a pipe"):
        taken(project)
    if name == "config.yaml":
        with pytest.raises(RunFolderError, match="expected a file, found a pipe"):
            serve(project, port=0, say=print)


@pytest.mark.parametrize("options", ["[1]", "words", "5"])
def test_options_that_are_no_mapping(project, options):
    rename_annotator(project, "browser", options)
    with pytest.raises(
        RunFolderError, match=r"annotator_options: expected a valid dictionary, found"
    ):
        serve(project, port=0, say=print)


@pytest.mark.slow
def test_modules_of_the_current_folder_are_not_imported(tmp_path, project):
    """Neither by `python -m rlmba` nor by the script, and not by name either."""
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    for name in ("payload", "json", "csv", "email", "typing", "traceback", "typer", "__future__"):
        (cwd / f"{name}.py").write_text("open('ran', 'a').write(__name__ + ' ')\nclass Own: pass\n")
    rename_annotator(project, "payload:Own")
    trust.allow(project, ["run payload:Own"])
    script = [str(shutil.which("rlmba", path=str(os.path.dirname(sys.executable))))]  # noqa: PTH120
    for command in ([sys.executable, "-m", "rlmba"], script):
        done = subprocess.run(
            [*command, "next", str(project)],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not (cwd / "ran").exists(), (cwd / "ran").read_text()
        assert "found no module 'payload'" in done.stderr
        assert "PYTHONPATH" in done.stderr


def test_a_full_round_asks_for_no_trust(project, settings):
    asked(project)
    fill(project, rows_of(40)[1])
    assert taken(project).record.round == 0
    assert not settings.exists()
