"""The annotator `browser` and its server, over HTTP."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import numpy as np
import pytest
from browser_project import CLASSES, HOSTILE, Client, Project, launch_label, make_batch
from media_files import write_clip, write_image
from PIL import Image

from rlmba.annotators import LabelBatch, Question, create
from rlmba.annotators.browser import start
from rlmba.annotators.browser.answers import AnswerLog, Entry
from rlmba.annotators.browser.desk import Desk
from rlmba.annotators.browser.guard import is_loopback
from rlmba.errors import AnnotatorError, DataError, StorageError, UsageError


def always(answers):
    return True


def questions(n, **more):
    return LabelBatch(
        0, CLASSES, False, {}, tuple(Question(f"s{k}", k + 1) for k in range(n)), **more
    )


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path / "project")
    made.ask(make_batch(tmp_path / "media"))
    return made


@pytest.fixture
def page(project):
    with project.start() as server:
        yield server


@pytest.fixture
def client(page):
    return Client(page.url)


# The annotator


def test_the_registry_makes_it_with_its_options(tmp_path):
    made = create("browser", tmp_path, {"host": "localhost", "port": 0})
    assert (made.host, made.port) == ("localhost", 0)
    with pytest.raises(UsageError, match="has no option 'colour'"):
        create("browser", tmp_path, {"colour": "red"})
    for wrong in ({"port": 65536}, {"port": "80"}, {"port": True}, {"host": ""}):
        with pytest.raises(UsageError, match=f"browser: {next(iter(wrong))}: expected"):
            create("browser", tmp_path, wrong)


def test_asking_again_gives_the_same_ticket_and_loses_no_answer(project):
    batch = make_batch(project.folder / "more")
    ticket = project.annotator.request(batch)
    project.annotator.log(ticket).append(Entry("sample 2", "dog"), always)
    assert project.annotator.request(batch) == ticket == "round_000"
    assert project.annotator.collect(ticket) == {"sample 2": "dog"}


def test_collect_gives_the_last_answer_in_the_order_of_the_batch(project):
    log = project.annotator.log("round_000")
    for entry in (
        Entry("sample 2", "dog"), Entry("sample 0", "cat"), Entry("sample 2", None),
        Entry("sample 1", "bird"), Entry("sample 1", None, undo=True),
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
            r"jsonl, line 2: .* got 'sample 9' \(nearest: 'sample",
        ),
        ('{"id": "sample 1", "label": "dgo"}', r"jsonl, line 2: .*got 'dgo' \(nearest: 'dog'\)"),
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


def test_an_open_batch_takes_other_classes(tmp_path):
    project = Project(tmp_path)
    ticket = project.ask(make_batch(tmp_path / "media", more=True))
    project.annotator.log(ticket).append(Entry("sample 0", "horse"), always)
    assert project.annotator.collect(ticket) == {"sample 0": "horse"}


# The file of answers


@pytest.mark.parametrize(
    "torn", ['{"id": "b", "la', "\0\0\0", '{"id": "b"', '{"id": "b", "label": "x']
)
def test_a_torn_last_line_does_not_count_and_is_cut_away(tmp_path, torn):
    log = AnswerLog(tmp_path / "answers" / "a.jsonl")
    log.append(Entry("a", "cat"), always)
    with log.path.open("a") as file:
        file.write(torn)
    fresh = AnswerLog(log.path)
    assert (list(fresh.read().current), fresh.read().damaged) == (["a"], [])
    fresh.append(Entry("c", "dog"), always)
    lines = log.path.read_text().split("\n")
    assert [json.loads(line)["id"] for line in lines[:-1]] == ["a", "c"]
    assert lines[-1] == ""


def test_a_whole_last_line_without_its_end_counts_and_stays(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "a", "label": "cat"}')
    log = AnswerLog(path)
    assert log.read().current["a"].label == "cat"
    log.append(Entry("b", None), always)
    assert {i: a.label for i, a in AnswerLog(path).read().current.items()} == {
        "a": "cat",
        "b": None,
    }


def test_threads_and_processes_append_whole_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    code = """
        import sys; from pathlib import Path
        from rlmba.annotators.browser.answers import AnswerLog, Entry
        for k in range(50):
            AnswerLog(Path(sys.argv[1])).append(Entry(f"{sys.argv[2]} {k}", "x" * k), lambda _: True)
    """.replace("\n        ", "\n")
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in ("p", "q")
    ]
    log = AnswerLog(path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: log.append(Entry(f"t {k}", "y"), always), range(100)))
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
    log.append(Entry("a", "cat"), always)
    before = log.path.read_bytes()
    full_disk(len(before) + 20)  # part of the line goes in
    with pytest.raises(StorageError, match="could not write the answer"):
        log.append(Entry("b", "dog"), always)
    full_disk(resource.RLIM_INFINITY)
    assert log.path.read_bytes() == before
    assert list(log.append(Entry("b", "dog"), always).current) == ["a", "b"]


def test_a_full_disk_is_said_to_the_page_and_the_answer_can_be_sent_again(
    project, client, full_disk
):
    assert client.say("sample 0", "cat").status_code == 200
    full_disk((project.folder / "answers" / "round_000.jsonl").stat().st_size + 20)
    refused = client.say("sample 1", "dog")
    full_disk(resource.RLIM_INFINITY)
    assert refused.status_code == 507
    assert "could not write the answer" in refused.json()["message"]
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
        ("sample 0", "dgo", "nearest: 'dog'"),
        ("sample 0", "horse", "expected one of"),
        ("sample 0", "", "expected one of"),
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
            assert "choose that instead" in client.say("sample 2", label).json()["message"]
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
    desk = Desk(tmp_path, lambda: now[0])
    batch = desk.current()
    assert desk.choose(batch, "one") == ["s0", "s1"]
    now[0] = 59
    assert desk.choose(batch, "two") == ["s1", "s2"]
    now[0] = 100
    desk.touch(batch, "one", "s0")
    now[0] = 118
    assert desk.choose(batch, "three")[0] == "s2"
    now[0] = 120
    assert desk.choose(batch, "four")[0] == "s1"
    now[0] = 161
    assert desk.choose(batch, "five")[0] == "s0"


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
        ('{"round": 3, "annotator": "browser", "ticket": "../../x"}', "expected a ticket"),
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


# Files


STRANGE = ("a/b?c%2f#d&e=f", "../../etc/passwd", "日本 \N{GRINNING FACE}", "..", HOSTILE)


def test_ids_may_hold_anything(tmp_path):
    project = Project(tmp_path / "project")
    files = [write_image(tmp_path / f"{k}.jpg", seed=k) for k in range(len(STRANGE))]
    project.ask(
        LabelBatch(
            0, CLASSES, False, {},
            tuple(Question(i, k + 1, files={"image": str(files[k])}) for k, i in enumerate(STRANGE)),
        )
    )  # fmt: skip
    with project.start() as server:
        client = Client(server.url)
        for k, i in enumerate(STRANGE):
            assert client.media(i, "image").content == files[k].read_bytes()
            assert client.get("/api/question", ticket="round_000", id=i).json()["id"] == i
            assert client.say(i, "cat").status_code == 200
    assert project.annotator.collect("round_000") == dict.fromkeys(STRANGE, "cat")


def test_no_other_file_can_be_reached(project, page, client, tmp_path):
    secret = tmp_path / "secret.jpg"
    write_image(secret)
    hostile = [
        ("sample 0", "../secret"), ("sample 0", str(secret)), (str(secret), "image"), ("..", ".."),
        ("sample 0", "image/../../secret.jpg"), ("sample 0", ""), ("", ""), ("sample 0\0", "image"),
    ]  # fmt: skip
    for sample, modality in hostile:
        assert client.media(sample, modality).status_code == 404
    for ticket in (
        "../round_000",
        "..",
        "",
        "round_000/../../browser/round_000",
        "/etc/passwd",
        "\0",
    ):
        assert client.media("sample 0", "image", ticket=ticket).status_code == 422
    for path in (
        "/media/../../browser.json", "/..%2f..%2fbrowser.json", "/browser.json", "/page.js/../answers.py",
        "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/media/sample%200/image", "/openapi.json", "/docs",
    ):  # fmt: skip
        with socket.create_connection(
            ("127.0.0.1", page.port)
        ) as raw:  # httpx would tidy the path up
            cookies = "; ".join(f"{k}={v}" for k, v in client.http.cookies.items())
            raw.sendall(
                f"GET {path} HTTP/1.0\r\nHost: localhost\r\nCookie: {cookies}\r\n\r\n".encode()
            )
            raw.settimeout(10)
            assert raw.recv(100).split()[1] == b"404", path


def test_files_come_with_their_type_and_in_ranges(client, project):
    batch = project.annotator.batch("round_000")
    for modality, kind in (
        ("image", "image/jpeg"),
        ("audio", "audio/wav"),
        ("video", "video/webm"),
    ):
        with open(batch.questions[0].files[modality], "rb") as file:  # noqa: PTH123 - a str
            whole = file.read()
        answer = client.media("sample 0", modality)
        assert (answer.status_code, answer.content) == (200, whole)
        assert answer.headers["content-type"] == kind
        assert answer.headers["accept-ranges"] == "bytes"
        part = client.media("sample 0", modality, headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, whole[100:200])
        assert part.headers["content-range"] == f"bytes 100-199/{len(whole)}"
        end = client.media("sample 0", modality, headers={"Range": "bytes=-7"})
        assert end.content == whole[-7:]
        beyond = client.media("sample 0", modality, headers={"Range": f"bytes={len(whole)}-"})
        assert beyond.status_code == 416


def shown(tmp_path, files):
    """Question and answer to `/media` of every file, by modality."""
    project = Project(tmp_path / "project")
    project.ask(
        LabelBatch(
            0, CLASSES, False, {}, (Question("a", 1, files={m: str(p) for m, p in files.items()}),)
        )
    )
    with project.start() as server:
        client = Client(server.url)
        told = client.get("/api/question", ticket="round_000", id="a").json()["files"]
        return {f["modality"]: (f, client.media("a", f["modality"])) for f in told}


def test_files_that_cannot_be_shown_are_named_with_the_reason(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "x.xyz").write_text("<script>alert(1)</script>")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("no image")
    os.mkfifo(tmp_path / "pipe.jpg")
    files = {
        "video": write_clip(tmp_path / "a.avi", seconds=0.5),
        "clip": write_clip(tmp_path / "a.mkv", seconds=0.5),
        "gone": tmp_path / "gone.jpg",
        "folder": tmp_path / "folder.jpg",
        "other": tmp_path / "x.xyz",
        "empty": tmp_path / "empty.png",
        "no image": tmp_path / "text.jpg",
        "pipe": tmp_path / "pipe.jpg",
        "long": tmp_path / ("x" * 300 + ".jpg"),
        "null": "a\0b.jpg",
    }
    said = {m: answer for m, (_, answer) in shown(tmp_path, files).items()}
    assert {m: answer.status_code for m, answer in said.items()} == dict.fromkeys(files, 422)
    for modality, part in (
        ("video", "do not play .avi"), ("clip", "do not play .mkv"), ("gone", "is not there"),
        ("folder", "not a file"), ("other", "no player"), ("empty", "cannot be read"),
        ("no image", "cannot be read"), ("pipe", "not a file"),
    ):  # fmt: skip
        message = said[modality].json()["message"]
        assert part in message
        assert str(files[modality]) in message


def pixels(answer):
    return Image.open(io.BytesIO(answer.content))


def test_images_that_browsers_do_not_know_become_jpegs(tmp_path):
    deep = np.linspace(1000, 3000, 64 * 48).reshape(48, 64).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    flat = Image.new("RGB", (40, 20), (255, 0, 0))
    flat.save(tmp_path / "a.tiff", exif=exif)
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.tga")
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "ink.tif")
    flat.save(tmp_path / "wrong.jpg", format="TIFF")
    files = {
        name: tmp_path / name
        for name in ("deep.tif", "a.tiff", "clear.tga", "ink.tif", "wrong.jpg")
    }
    answers = {m: answer for m, (_, answer) in shown(tmp_path, files).items()}
    for answer in answers.values():
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert pixels(answers["a.tiff"]).size == (20, 40)
    values = np.asarray(pixels(answers["deep.tif"]).convert("L"))
    assert values.min() < 10
    assert values.max() > 245
    assert pixels(answers["clear.tga"]).getpixel((4, 4)) > (250, 250, 250)
    red, green, blue = pixels(answers["ink.tif"]).getpixel((4, 4))
    assert red > 200 > 100 > max(green, blue)
    assert pixels(answers["wrong.jpg"]).size == (40, 20)


def test_native_images_come_as_they_are_whatever_their_suffix(tmp_path):
    Image.new("P", (8, 8)).save(tmp_path / "a.jpg", format="PNG")
    (tmp_path / "a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    answers = shown(tmp_path, {"a": tmp_path / "a.jpg", "image": tmp_path / "a.svg"})
    assert answers["a"][1].headers["content-type"] == "image/png"
    assert answers["a"][1].content == (tmp_path / "a.jpg").read_bytes()
    drawing = answers["image"][1]
    assert drawing.headers["content-type"] == "image/svg+xml"
    assert "sandbox" in drawing.headers["content-security-policy"]


def test_huge_images_are_made_small_or_refused(tmp_path, monkeypatch):
    # A little more than 2**26 pixels, and more bytes than a browser gets of an image.
    Image.new("L", (8200, 8200), 200).save(tmp_path / "huge.jpg")
    Image.new("1", (8200, 8200)).save(tmp_path / "huge.png")
    noise = np.random.default_rng(0).integers(0, 256, (2000, 3000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "heavy.png", compress_level=0)
    files = {name: tmp_path / name for name in ("huge.jpg", "huge.png", "heavy.png")}
    # Of more than twice this many pixels Pillow refuses to open an image.
    for limit in (Image.MAX_IMAGE_PIXELS, 2**25):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        answers = {m: answer for m, (_, answer) in shown(tmp_path, files).items()}
        assert pixels(answers["huge.jpg"]).size == (2048, 2048)
        assert pixels(answers["heavy.png"]).size == (2048, 1365)
        assert answers["huge.png"].status_code == 422
        assert "too many pixels" in answers["huge.png"].json()["message"]


def test_texts_are_cut_where_they_are_endless(tmp_path):
    project = Project(tmp_path)
    project.ask(
        LabelBatch(0, CLASSES, False, {}, (Question("a", 1, texts={"text": "x" * 200_007}),))
    )
    with project.start() as server:
        told = Client(server.url).get("/api/question", ticket="round_000", id="a").json()
    assert (len(told["texts"][0]["text"]), told["texts"][0]["cut"]) == (200_000, 7)


# Who may ask


def test_without_the_token_nothing_is_told(page):
    http = httpx.Client(base_url=f"http://127.0.0.1:{page.port}", trust_env=False)
    for path in (
        "/",
        "/?token=",
        "/?token=wrong",
        "/page.js",
        "/api/state",
        "/media",
        "/nothing",
        "/?token=é",
    ):
        answer = http.get(path)
        assert answer.status_code == 403
        assert "was printed where `rlmba label`" in answer.text
        assert "set-cookie" not in answer.headers
    assert http.post("/api/answer", json={}).status_code == 403
    http.cookies.set("rlmba", "wrong")
    assert http.get("/").status_code == 403


def test_the_link_is_exchanged_for_a_cookie_that_scripts_and_other_sites_cannot_use(page):
    answer = httpx.get(page.url, trust_env=False)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in answer.text
    assert answer.headers["referrer-policy"] == "no-referrer"
    # A stale link is refused also where the cookie is right.
    client = Client(page.url)
    assert client.get("/").status_code == 200
    assert client.get("/", token="stale").status_code == 403


def test_answers_are_taken_from_the_page_alone(page, client, project):
    body = {"ticket": "round_000", "session": "x", "id": "sample 0", "label": "cat", "base": 0}
    for origin in (
        "http://evil.example",
        f"http://localhost:{page.port}",
        "null",
        "",
        f"{client.base}.evil",
    ):
        assert client.post("/api/answer", body, Origin=origin).status_code == 403
    assert client.http.post("/api/answer", json=body).status_code == 403  # no origin at all
    assert client.http.delete("/api/answer").status_code == 403
    form = client.http.post("/api/answer", data=body, headers={"Origin": client.base})
    assert form.status_code == 422
    big = client.post("/api/answer", {**body, "by": "x" * 2**20})
    assert big.status_code == 413
    chunked = client.http.post(
        "/api/answer", content=iter([json.dumps(body).encode()]), headers={"Origin": client.base}
    )
    assert chunked.status_code == 413
    assert not (project.folder / "answers").exists()


def test_other_names_that_point_here_get_nothing(page, client):
    cookies = dict(client.http.cookies)
    for name, status in (
        ("evil.example", 403), (f"evil.example:{page.port}", 403), ("localhost.evil.example", 403),
        ("", 403), ("[", 403), (f"localhost:{page.port}", 200), ("127.0.0.1", 200), ("[::1]:9", 200),
    ):  # fmt: skip
        answer = httpx.get(client.base, headers={"Host": name}, cookies=cookies, trust_env=False)
        assert answer.status_code == status, name


def test_loopback():
    assert all(map(is_loopback, ("localhost", "LOCALHOST", "127.0.0.1", "127.8.8.8", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.1", "localhost.example", "")))


def test_the_token_outlives_the_server_and_is_the_owners_alone(project):
    with project.start() as first:
        url = first.url
    path = project.folder / "browser.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with project.start() as second:
        assert second.url.split("?")[1] == url.split("?")[1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for damaged in ("", "{", '{"token": ""}', '{"token": 3}', "[]"):
        path.write_text(damaged)
        with project.start() as third:
            assert len(Client(third.url).token) >= 32
            assert third.url.split("?")[1] != url.split("?")[1]


def test_a_token_may_be_given_and_must_be_one(project):
    with project.start(token="abcdefgh-ABCDEFGH_1") as server:
        assert server.url.endswith("/?token=abcdefgh-ABCDEFGH_1")
        assert Client(server.url).state()["ticket"] == "round_000"
    with pytest.raises(UsageError, match="token: expected"):
        project.start(token="short")


# The server


def test_a_port_that_is_taken_is_named(project, page):
    with pytest.raises(AnnotatorError, match=rf"port {page.port} .*--port 0"):
        start(project.folder, port=page.port)


def test_hosts_and_folders_that_are_none(project, tmp_path):
    with pytest.raises(UsageError, match=r"host: .*203\.0\.113\.1"):
        start(project.folder, "203.0.113.1", 0)
    with pytest.raises(UsageError, match=r"host: expected a name"):
        start(project.folder, "no.such.host.invalid", 0)
    with pytest.raises(UsageError, match="there is none"):
        start(tmp_path / "nothing", port=0)


def test_it_ends_while_a_player_is_still_loading(project, tmp_path):
    big = tmp_path / "big.wav"
    with big.open("wb") as file:
        file.truncate(200_000_000)
    project.ask(LabelBatch(0, CLASSES, False, {}, (Question("a", 1, files={"audio": str(big)}),)))
    server = project.start()
    client = Client(server.url)
    query = {"ticket": "round_000", "id": "a", "modality": "audio"}
    with client.http.stream("GET", "/media", params=query) as stream:
        next(stream.iter_bytes())
        closing = threading.Thread(target=server.close)
        closing.start()
        closing.join(15)
        assert not closing.is_alive()
    with project.start() as again:
        assert Client(again.url).state()["ticket"] == "round_000"


def test_the_command(project):
    process, url = launch_label(project.folder, "--port", "0")
    try:
        assert url.startswith("http://127.0.0.1:")
        assert Client(url).say("sample 0", "cat").status_code == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    assert "the same command goes on" in out
    assert project.annotator.collect("round_000") == {"sample 0": "cat"}


def test_the_command_takes_the_projects_options_and_warns_of_an_open_door(project):
    (project.folder / "config.yaml").write_text(
        "project:\n  annotator: browser\n  annotator_options: {host: 0.0.0.0, port: 0}\n"
    )
    process, url = launch_label(project.folder)
    try:
        warning = process.stdout.readline()
        port = url.split(":")[2].split("/")[0]
        answer = httpx.get(
            f"http://127.0.0.1:{port}/?{url.split('?')[1]}",
            headers={"Host": "any.example"},
            trust_env=False,
        )
    finally:
        process.kill()
        process.communicate()
    assert "warning: other machines can reach this page" in warning
    assert answer.status_code == 200


def test_the_command_refuses_a_folder_that_is_no_project(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "rlmba", "label", str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "rlmba init" in done.stderr


def test_importing_the_annotator_is_light():
    code = (
        "import sys; from rlmba.annotators.browser import Browser\n"
        "print(sorted({'torch', 'fastapi', 'uvicorn', 'PIL', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_folder_that_is_moved_while_served_is_a_message_not_a_crash(project, client, tmp_path):
    shutil.move(project.folder, tmp_path / "elsewhere")
    assert client.state()["ticket"] is None
    shutil.move(tmp_path / "elsewhere", project.folder)
    assert client.state()["ticket"] == "round_000"
