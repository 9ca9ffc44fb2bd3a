"""A project with damaged and unusual files, from `rlmba init` to `rlmba predict`."""

from __future__ import annotations

import csv
import json
import re

import pytest
from PIL import Image

from rlmba.annotators.browser import start as serve
from rlmba.cli import main
from rlmba.runfolder.pending import read_pending
from tests.helpers.browser_project import Client
from tests.helpers.media_files import write_image
from tests.helpers.people_data import QUICK

LONG_ID = "x" * 200
ODD_ID = "a/b c/é %2F?#&<b>'"
MEBI = 2**20


@pytest.fixture
def manifest(tmp_path):
    """Forty rows; the first fourteen are not as one would wish."""
    rows = []
    for i in range(40):
        write_image(tmp_path / f"{i}.png", seed=i, label=i % 2, size=(40, 36))
        (tmp_path / f"{i}.txt").write_text(f"{['cat purrs', 'dog barks'][i % 2]} {i}")
        rows.append({"id": f"s{i}", "image": f"{i}.png", "text_file": f"{i}.txt"})
    texts = {
        0: b"dog barks and more words " * (10 * MEBI // 25),
        1: b"x" * (10 * MEBI),
        2: b"",
        3: b" \n ",
        4: "cat purrs é".encode("utf-16"),
        5: "dog barks loud here".encode("utf-16-le"),
        6: "café cat".encode("latin-1"),
        7: b"cat\0purrs\0 and more",
        8: b"\0" * 1000,
        9: b"x" * (17 * MEBI),
    }
    for i, data in texts.items():
        (tmp_path / f"{i}.txt").write_bytes(data)
    (tmp_path / "10.png").write_bytes(b"")
    (tmp_path / "11.png").write_bytes(b"not an image")
    (tmp_path / "12.png").write_bytes((tmp_path / "13.png").read_bytes()[:100])
    Image.new("RGB", (1, 1), "red").save(tmp_path / "13.png")
    rows[14]["id"], rows[15]["id"] = LONG_ID, ODD_ID
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_whole_loop(tmp_path, manifest, capsys):
    folder, out = tmp_path / "project", tmp_path / "out.csv"
    encoders = ("model.encoders.text=ngrams", "model.encoders.image=image-statistics")
    settings = (*QUICK, *encoders, "model.frozen=true", "initial_labels=32")
    chosen = [word for setting in settings for word in ("--set", setting)]
    classes = ["--classes", "cat,dog"]
    with pytest.warns(Warning, match="cannot be used") as caught:
        assert main(["init", str(folder), "--manifest", str(manifest), *classes, *chosen]) == 0
    told = "\n".join(str(warning.message) for warning in caught)
    assert "3 files named in the table cannot be used" in told
    assert "a text of 17 MiB, expected at most 16" in told
    with pytest.warns(Warning, match=r"could not be read: 's3' \(text\), 's8' \(text\), 's11'"):
        assert main(["next", str(folder)]) == 0
    ids = read_pending(folder).ids
    assert len(ids) == 40
    assert all(f.stat().st_size < MEBI for f in folder.rglob("*") if f.is_file())

    rows = {row["id"]: i for i, row in enumerate(map(json.loads, manifest.open()))}
    with serve(folder, port=0) as server:
        client = Client(server.url)
        for id_ in ids:
            question = client.get("/api/question", ticket="round_000", id=id_).json()
            assert len(json.dumps(question)) < MEBI
            there = rows[id_] not in (10, 11, 12)
            status = client.media(id_, "image").status_code
            assert (status == 200) == there
            assert client.say(id_, ("cat", "dog")[rows[id_] % 2]).status_code == 200
    assert main(["collect", str(folder)]) == 0
    assert "40 new answers" in capsys.readouterr().out

    assert main(["predict", str(folder), "--manifest", str(manifest), "--out", str(out)]) == 0
    with out.open(encoding="utf-8", newline="") as file:
        read = {row["id"]: row for row in csv.DictReader(file)}
    assert set(read) == set(rows)
    assert all(row["class"] in ("cat", "dog") for row in read.values())
    unread = {i: row["unreadable"] for i, row in read.items() if row["unreadable"]}
    assert unread == {"s3": "text", "s8": "text", "s11": "image", "s12": "image"}


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda text: text + b"\0", "line 42: expected text, got NUL bytes"),
        (lambda text: text[:-8], "line 41: expected 3 cells .* the file seems to be cut off"),
        (
            lambda text: text + b"s1,again,0.5\n",
            "line 42: expected distinct ids, but 's1' is already",
        ),
        (lambda text: text + b"s41,too,many,cells\n", "line 42: expected 3 cells .*, got 4"),
        (
            lambda text: text + "s41,été,0.5\n".encode() + b"s42,\xe9t\xe9,0.5\n",
            "line 43: expected UTF-8",
        ),
        (lambda text: text + b'"a\nb",x,0.5\n', "line 42: id 'a.nb': expected one line"),
        (lambda text: text.decode().encode("utf-16")[:-1], "line 41: expected UTF-16"),
        (lambda _: b"", "the file is empty"),
    ],
)
def test_a_table_that_gets_damaged_is_one_error_and_nothing_changes(
    tmp_path, capsys, damage, problem
):
    table = tmp_path / "m.csv"
    lines = ["id,text,dose", *(f"s{i},{['cat', 'dog'][i % 2]} {i},{i / 4}" for i in range(40))]
    whole = "".join(line + "\n" for line in lines).encode()
    table.write_bytes(damage(whole))
    folder = tmp_path / "project"
    chosen = [word for setting in QUICK for word in ("--set", setting)]
    chosen += ["--set", "model.encoders.text=ngrams", "--set", "model.frozen=true"]
    start = ["init", str(folder), "--manifest", str(table), "--annotator", "file", *chosen]
    assert main(start) == 1
    assert_one_error(capsys, problem)
    assert not folder.exists()

    table.write_bytes(whole)
    assert main(start) == 0
    assert main(["next", str(folder)]) == 0
    before = files_of(folder)
    table.write_bytes(damage(whole))
    capsys.readouterr()
    assert main(["next", str(folder)]) == 1
    assert_one_error(capsys, problem)
    assert files_of(folder) == before


def assert_one_error(capsys, problem):
    told = capsys.readouterr().err
    assert told.count("error: ") == 1
    assert "Traceback" not in told
    assert re.search(problem, told), told


def files_of(folder):
    return {f: f.read_bytes() for f in folder.rglob("*") if f.is_file() and f.name != "lock"}
