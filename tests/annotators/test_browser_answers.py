"""The annotator `browser`: what is written down, and answering over HTTP."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from rlmba.annotators import LabelBatch, Question, create
from rlmba.annotators.browser.answer_log import AnswerEvent, AnswerLog
from rlmba.annotators.browser.page_state import PageState
from rlmba.errors import AnnotatorError, DataError, StorageError, UsageError
from tests.helpers.browser_project import CLASSES, HOSTILE, Client, Project, make_batch


def always(answers):
    return True


def questions(n, **more):
    return LabelBatch(
        0, CLASSES, False, {}, tuple(Question(f"s{k}", k + 1) for k in range(n)), **more
    )


# The annotator


def test_the_registry_makes_it_with_its_options(tmp_path):
    made = create("browser", tmp_path, {"host": "localhost", "port": 0})
    assert (made.host, made.port) == ("localhost", 0)
    with pytest.raises(UsageError, match="has no option 'color'"):
        create("browser", tmp_path, {"color": "red"})
    for wrong in ({"port": 65536}, {"port": "80"}, {"port": True}, {"host": ""}):
        with pytest.raises(UsageError, match=f"{next(iter(wrong))}: expected"):
            create("browser", tmp_path, wrong)


def test_asking_again_gives_the_same_ticket_and_loses_no_answer(project):
    batch = make_batch(project.folder / "more")
    ticket = project.annotator.request(batch)
    project.annotator.log(ticket).append(AnswerEvent("sample 2", "dog"), always)
    assert project.annotator.request(batch) == ticket == "round_000"
    assert project.annotator.collect(ticket) == {"sample 2": "dog"}


def test_collect_gives_the_last_answer_in_the_order_of_the_batch(project):
    log = project.annotator.log("round_000")
    for entry in (
        AnswerEvent("sample 2", "dog"), AnswerEvent("sample 0", "cat"), AnswerEvent("sample 2", None),
        AnswerEvent("sample 1", "bird"), AnswerEvent("sample 1", None, undo=True),
    ):  # fmt: skip
        log.append(entry, always)
    assert list(project.annotator.collect("round_000").items()) == [
        ("sample 0", "cat"), ("sample 2", None),
    ]  # fmt: skip
    # By another process's annotator, too: all that lasts is on disk.
    assert create("browser", project.folder).collect("round_000")["sample 0"] == "cat"


def test_collect_without_an_answer_is_empty_and_without_a_batch_an_error(project):
    assert project.annotator.collect("round_000") == {}
    with pytest.raises(AnnotatorError, match="rlmba next"):
        project.annotator.collect("round_001")
    for ticket in ("../config", "round_000/../round_000", "", "round_00", "round_000\n"):
        with pytest.raises(AnnotatorError, match="expected a ticket"):
            project.annotator.collect(ticket)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"id": "sample 9", "label": "cat"}',
            r"jsonl, line 2: id 'sample 9' was not asked for \(did you mean 'sample",
        ),
        (
            '{"id": "sample 1", "label": "dgo"}',
            r"jsonl, line 2: label 'dgo' .*\(did you mean 'dog'\?\)",
        ),
        ('{"id": "sample 1", "label": 3}', r"jsonl, line 2: expected an answer as JSON"),
        ('{"id": "sample 1"}', r"jsonl, line 2: expected an answer as JSON"),
        ("not json", r"jsonl, line 2: expected an answer as JSON"),
    ],
)
def test_a_wrong_line_is_named_and_left_as_it_is(project, line, message):
    path = project.folder / "answers" / "round_000.jsonl"
    path.parent.mkdir()
    text = '{"id": "sample 0", "label": "cat"}\n' + line + "\n"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        project.annotator.collect("round_000")
    assert path.read_text() == text


def test_lines_that_another_program_has_written(project):
    path = project.folder / "answers" / "round_000.jsonl"
    path.parent.mkdir()
    lines = [("sample\xa00", "dog"), ("sample 0", "Cat"), ("sample 1", "dog")]
    path.write_text("".join(json.dumps({"id": i, "label": name}) + "\n" for i, name in lines))
    assert project.annotator.collect("round_000") == {"sample 0": "cat", "sample 1": "dog"}


def test_an_open_batch_takes_other_classes(tmp_path):
    project = Project(tmp_path)
    ticket = project.ask(make_batch(tmp_path / "media", more=True))
    project.annotator.log(ticket).append(AnswerEvent("sample 0", "horse"), always)
    assert project.annotator.collect(ticket) == {"sample 0": "horse"}


# The file of answers


@pytest.mark.parametrize(
    "torn", ['{"id": "b", "la', "\0\0\0", '{"id": "b"', '{"id": "b", "label": "x']
)
def test_a_torn_last_line_does_not_count_and_is_cut_away(tmp_path, torn):
    log = AnswerLog(tmp_path / "answers" / "a.jsonl")
    log.append(AnswerEvent("a", "cat"), always)
    with log.path.open("a") as file:
        file.write(torn)
    fresh = AnswerLog(log.path)
    assert (list(fresh.read().current), fresh.read().damaged) == (["a"], [])
    fresh.append(AnswerEvent("c", "dog"), always)
    lines = log.path.read_text().split("\n")
    assert [json.loads(line)["id"] for line in lines[:-1]] == ["a", "c"]
    assert lines[-1] == ""


def test_a_whole_last_line_without_its_end_counts_and_stays(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "a", "label": "cat"}')
    log = AnswerLog(path)
    assert log.read().current["a"].label == "cat"
    log.append(AnswerEvent("b", None), always)
    assert {i: a.label for i, a in AnswerLog(path).read().current.items()} == {
        "a": "cat",
        "b": None,
    }


@pytest.mark.slow
def test_threads_and_processes_append_whole_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    code = """
        import sys; from pathlib import Path
        from rlmba.annotators.browser.answer_log import AnswerLog, AnswerEvent
        for k in range(50):
            AnswerLog(Path(sys.argv[1])).append(AnswerEvent(f"{sys.argv[2]} {k}", "x" * k), lambda _: True)
    """.replace("\n        ", "\n")
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in ("p", "q")
    ]
    log = AnswerLog(path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: log.append(AnswerEvent(f"t {k}", "y"), always), range(100)))
    assert [process.wait(60) for process in processes] == [0, 0]
    answers = AnswerLog(path).read()
    assert answers.damaged == []
    assert len(answers.current) == 200
    assert path.read_bytes().count(b"\n") == 200


@pytest.fixture
def full_disk():
    """Files may grow to this many bytes and no further."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, full_disk):
    log = AnswerLog(tmp_path / "a.jsonl")
    log.append(AnswerEvent("a", "cat"), always)
    before = log.path.read_bytes()
    full_disk(len(before) + 20)  # part of the line goes in
    with pytest.raises(StorageError, match="could not append to"):
        log.append(AnswerEvent("b", "dog"), always)
    full_disk(resource.RLIM_INFINITY)
    assert log.path.read_bytes() == before
    assert list(log.append(AnswerEvent("b", "dog"), always).current) == ["a", "b"]


def test_a_full_disk_is_said_to_the_page_and_the_answer_can_be_sent_again(
    project, client, full_disk
):
    assert client.say("sample 0", "cat").status_code == 200
    full_disk((project.folder / "answers" / "round_000.jsonl").stat().st_size + 20)
    refused = client.say("sample 1", "dog")
    full_disk(resource.RLIM_INFINITY)
    assert refused.status_code == 507
    assert "could not append to" in refused.json()["message"]
    assert client.say("sample 1", "dog").status_code == 200
    assert project.annotator.collect("round_000") == {"sample 0": "cat", "sample 1": "dog"}


# Answering over HTTP


def test_an_answer_is_on_disk_when_the_page_hears_of_it(project, client):
    heard = client.say("sample 0", "cat", by=" Ann ")
    assert heard.json()["answers"]["sample 0"]["label"] == "cat"
    (line,) = project.answers()
    assert (line["id"], line["label"], line["by"], line["session"]) == (
        "sample 0",
        "cat",
        "Ann",
        "one",
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", line["time"])
    client.say("sample 0", None, base=1, undo=True)
    assert project.answers()[1]["undo"] is True
    assert "label" not in project.answers()[1]
    assert project.annotator.collect("round_000") == {}


def test_an_answer_sent_twice_is_written_once(project, client):
    client.say("sample 0", "cat")
    assert client.say("sample 0", "cat").status_code == 200
    assert len(project.answers()) == 1
    assert (
        client.say("sample 1", None, undo=True).status_code == 200
    )  # there is nothing to take back
    assert len(project.answers()) == 1


def test_what_is_no_answer_is_refused(project, client):
    for sample, label, part in (
        ("sample 9", "cat", "expected a sample of round_000"),
        ("sample 0", "dgo", "did you mean 'dog'"),
        ("sample 0", "horse", "is not one of the classes"),
        ("sample 0", "", "is not one of the classes"),
    ):
        refused = client.say(sample, label)
        assert refused.status_code == 422
        assert part in refused.json()["message"]
    assert client.say("sample 0", "cat", ticket="round_007").status_code == 422
    assert client.post("/api/answer", {"id": "sample 0"}).status_code == 422
    assert not (project.folder / "answers").exists()


def test_new_classes_of_an_open_batch(tmp_path):
    project = Project(tmp_path)
    project.ask(make_batch(tmp_path / "media", more=True))
    with project.start() as server:
        client = Client(server.url)
        assert client.say("sample 0", "  big \t horse ").status_code == 200
        assert client.say("sample 1", HOSTILE).status_code == 200
        said = client.state()
        assert said["classes"] == [*CLASSES, "big horse", HOSTILE]
        for label in ("CAT", "Big Horse"):
            assert "choose it instead" in client.say("sample 2", label).json()["message"]
        for label in ("", " ", "a\0b", "\u202e", "x" * 201):
            assert client.say("sample 2", label).status_code == 422
    assert project.annotator.collect("round_000") == {"sample 0": "big horse", "sample 1": HOSTILE}


def test_an_answer_of_another_tab_is_not_overwritten_unawares(project, page):
    one, two = Client(page.url, "one"), Client(page.url, "two")
    one.say("sample 0", "cat", by="Ann")
    conflict = two.say("sample 0", "dog", by="Bob")
    assert conflict.status_code == 409
    there = conflict.json()["there"]
    assert (there["label"], there["by"], there["version"]) == ("cat", "Ann", 1)
    assert two.say("sample 0", None, undo=True).status_code == 409
    assert two.say("sample 0", "cat").status_code == 200  # they agree
    assert len(project.answers()) == 1
    # Who has seen it may replace it; who had seen the one before may not.
    assert two.say("sample 0", "dog", base=1).status_code == 200
    assert one.say("sample 0", "bird", base=1).status_code == 409
    # One's own answer may always be replaced: an answer of before may have arrived unheard.
    assert two.say("sample 0", "bird", base=0).status_code == 200
    assert [line["label"] for line in project.answers()] == ["cat", "dog", "bird"]


def test_answers_at_once_from_many_tabs_leave_one_winner_a_sample(project, page):
    clients = [Client(page.url, f"tab {k}") for k in range(6)]
    with ThreadPoolExecutor(6) as pool:
        codes = list(
            pool.map(lambda k: clients[k].say("sample 0", CLASSES[k % 2]).status_code, range(6))
        )
    assert set(codes) <= {200, 409}
    assert len(project.answers()) == 1
    assert codes.count(409) == 3  # the three that said the other


def test_tabs_get_different_samples_and_skipped_ones_come_last(page):
    one, two, three = (Client(page.url, name) for name in ("one", "two", "three"))
    assert one.next() == {"now": "sample 0", "then": "sample 1"}
    assert two.next()["now"] == "sample 1"
    assert three.next()["now"] == "sample 2"
    assert one.next()["now"] == "sample 0"
    assert two.next(skipped=["sample 1"], leaving="sample 1")["now"] == "sample 3"
    one.say("sample 0", "cat")
    assert one.next(skipped=["sample 1"])["now"] == "sample 1"
    for k in range(1, 4):
        one.say(f"sample {k}", None)
    assert one.next() == {"now": None, "then": None}


def test_a_sample_is_held_for_a_minute_after_its_tab_was_last_heard_of(tmp_path):
    now = [0.0]
    project = Project(tmp_path)
    project.ask(questions(3))
    page = PageState(tmp_path, lambda: now[0])
    batch = page.current()
    assert page.choose(batch, "one") == ["s0", "s1"]
    now[0] = 59
    assert page.choose(batch, "two") == ["s1", "s2"]
    now[0] = 100
    page.touch(batch, "one", "s0")
    now[0] = 118
    assert page.choose(batch, "three")[0] == "s2"
    now[0] = 120
    assert page.choose(batch, "four")[0] == "s1"
    now[0] = 161
    assert page.choose(batch, "five")[0] == "s0"


def test_the_page_goes_on_with_the_batch_that_is_pending(project, client, tmp_path):
    first = client.state()
    assert first["ticket"] == "round_000"
    assert "answers" not in client.state(since=first["since"])
    client.say("sample 0", "cat")
    assert client.state(since=first["since"])["answers"]["sample 0"]["label"] == "cat"
    (project.folder / "pending.json").unlink()
    waiting = client.state()
    assert waiting["ticket"] is None
    assert "rlmba next" in waiting["message"]
    project.ask(replace(make_batch(tmp_path / "media"), round=1))
    assert client.state()["ticket"] == "round_001"
    # An answer to the batch before that was on its way is kept.
    assert client.say("sample 1", "dog").status_code == 200
    assert project.annotator.collect("round_000") == {"sample 0": "cat", "sample 1": "dog"}
    assert client.media("sample 0", "image", ticket="round_000").status_code == 200


def test_an_answer_to_another_batch_than_that_on_the_screen_is_refused(project, client, tmp_path):
    key = client.state()["key"]
    assert client.say("sample 0", "cat", key=key).status_code == 200
    project.ask(make_batch(tmp_path / "media", n=3))
    refused = client.say("sample 1", "dog", key=key)
    assert refused.status_code == 422
    assert "asked for again" in refused.json()["message"]
    assert client.say("sample 3", "dog").status_code == 422
    assert client.say("sample 1", "dog", key=client.state()["key"]).status_code == 200
    # What was on the screen before the next round counts for its own round.
    key = client.state()["key"]
    project.ask(make_batch(tmp_path / "media", number=1, prefix="later"))
    assert client.say("sample 2", "bird", key=key).status_code == 200
    for wrong in ({"ticket": "round_001"}, {"ticket": "round_001", "key": key}):
        assert client.say("sample 2", "bird", **wrong).status_code == 422
    assert client.say("later 0", "cat", ticket="round_001", key=key).status_code == 422
    assert project.annotator.collect("round_000") == {
        "sample 0": "cat",
        "sample 1": "dog",
        "sample 2": "bird",
    }
    assert project.annotator.collect("round_001") == {}


def test_a_batch_asked_for_anew_is_another_one(project, client, tmp_path):
    key = client.state()["key"]
    project.ask(make_batch(tmp_path / "media"))
    assert client.state()["key"] == key
    project.ask(make_batch(tmp_path / "media", n=3))
    assert client.state()["key"] != key


@pytest.mark.parametrize(
    ("pending", "part"),
    [
        ('{"round": 3, "annotator": "file", "ticket": "round_003"}', "annotator 'file'"),
        ('{"round": 3, "annotator": "browser", "ticket": "round_003"}', "rlmba next"),
        ('{"round": 3, "annotator": "browser", "ticket": "../../x"}', "a ticket by name"),
        ('{"round": 3, "ids": ["a"], "scores": [0.5]}', "Run `rlmba next`"),
        ("{", "rlmba next"),
        ("[]", "rlmba next"),
        ("{}", "rlmba next"),
    ],
)
def test_a_pending_batch_that_is_not_here_is_said(project, client, pending, part):
    (project.folder / "pending.json").write_text(pending)
    answer = client.get("/api/state")
    assert answer.status_code == 200
    assert answer.json()["ticket"] is None
    assert part in answer.json()["message"]
