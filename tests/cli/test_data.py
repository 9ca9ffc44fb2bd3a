from __future__ import annotations

import csv
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

from rlmba.cli import main
from rlmba.data.media.cache import CacheReader, read_cache_info
from tests.helpers import media_sets


@pytest.fixture(scope="module")
def food(tmp_path_factory):
    root = tmp_path_factory.mktemp("food")
    media_sets.make_food101(root, damages=("missing-text", "truncated", "gray"))
    return root


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    root = tmp_path_factory.mktemp("vgg")
    damages = ("no-audio", "missing", "empty-file")
    media_sets.make_vggsound(root, train=3, test=1, seconds=6.0, damages=damages)
    return root


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def rlmba(capfd):
    """Run a command in this process; return its exit code, output lines, and errors."""

    def run(*arguments):
        code = main([*map(str, arguments)])
        out, err = capfd.readouterr()
        return code, out.splitlines(), err

    return run


def row(lines, *start):
    """Figures of the table's row that starts with these words."""
    (found,) = [line.split() for line in lines if line.split()[: len(start)] == list(start)]
    return found[len(start) :]


def test_check_of_a_folder(rlmba, food, tmp_path):
    code, lines, errors = rlmba("data", "check", "food101", food, "--tokenizer", "words")
    assert code == 0
    assert errors == "checked: 21 of 21\n"
    assert lines[0] == f"food101 in {food}, layout folders"
    assert "train: 98 of 101 classes have no sample (beef_carpaccio, beef_tartare" in "\n".join(
        lines
    )
    header = [
        "published",
        "listed",
        "found",
        "missing",
        "unreadable",
        "flagged",
        "complete",
        "usable",
    ]
    assert row(lines, "split", "published")[0] == header[1]
    assert row(lines, "train", "45,719") == ["15", "14", "1", "1", "1", "13", "15"]
    assert row(lines, "test", "15,294") == ["6", "6", "0", "0", "0", "6", "6"]
    assert row(lines, "train", "apple_pie") == ["5", "4", "1", "0", "0", "4", "5"]
    assert row(lines, "train", "baby_back_ribs") == ["5", "5", "0", "1", "0", "4", "5"]
    assert row(lines, "train", "baklava") == ["5", "5", "0", "0", "1", "5", "5"]
    assert [line.split(":")[0] for line in lines[-6:-3]] == ["unreadable", "missing", "flagged"]
    assert re.fullmatch(r"split checksum of the 21 samples usable: [0-9a-f]{32}", lines[-3])
    assert re.fullmatch(r"split checksum of the 19 with all modalities: [0-9a-f]{32}", lines[-2])
    assert lines[-1].startswith(str(tmp_path / "xdg" / "rlmba" / "index"))

    quick = rlmba("data", "check", "food101", food, "--quick", "--all")
    assert (quick[0], quick[2]) == (0, "")
    assert row(quick[1], "train", "45,719") == ["15", "14", "1"]
    assert row(quick[1], "test", "waffles") == ["0", "0", "0"]
    assert quick[1][-2] == lines[-3].replace("usable", "with a file")


def test_prepare_then_check_the_cache(rlmba, vgg, tmp_path):
    out = tmp_path / "cache"
    problems = tmp_path / "problems.csv"
    command = ("data", "prepare", "vggsound", vgg, "--cache", out, "--workers", 2)
    code, lines, errors = rlmba(*command, "--problems", problems)
    assert code == 0
    assert errors == "prepared: 14 of 14\n"
    assert row(lines, "train", "105,243") == ["12", "11", "1", "2", "0", "9", "10"]
    assert row(lines, "test", "7,109") == ["3", "3", "0", "0", "0", "3", "3"]
    assert row(lines, "train", "dog", "barking") == ["4", "4", "0", "1", "0", "3", "4"]
    assert lines[-4] == f"5 problems, listed in {problems}"
    assert lines[-1] == str(out)
    with problems.open(newline="") as file:
        kinds = [(r["class"], r["modality"], r["kind"]) for r in csv.DictReader(file)]
    assert sorted(kinds) == [
        ("dog barking", "audio", "unreadable"),
        ("playing violin, fiddle", "audio", "missing"),
        ("playing violin, fiddle", "video", "missing"),
        ("thunder", "audio", "unreadable"),
        ("thunder", "video", "unreadable"),
    ]
    info = read_cache_info(out)
    sample = CacheReader(out).read(0)
    assert len(info.ids) == 13
    assert sample["video"].shape == (10, 128, 171, 3)
    assert sample["audio"].shape == (160_000,)

    again = rlmba(*command)
    assert (again[0], again[1][-3:]) == (0, lines[-3:])
    code, checked, errors = rlmba("data", "check", "vggsound", out)
    assert (code, errors) == (0, "checked: 2 of 2\n")
    assert checked[-3:] == lines[-3:]

    shard = out / "shards" / "00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    code, checked, errors = rlmba("data", "check", "vggsound", out)
    assert (code, checked) == (1, [])
    assert f"{shard}: the checksum is wrong" in errors


def test_bad_requests(rlmba, food, vgg, tmp_path):
    def refused(*arguments):
        code, lines, errors = rlmba("data", *arguments)
        assert lines == []
        assert errors.startswith("error: ")
        return code, errors

    code, errors = refused("check", "food102", food)
    assert (code, "food101, kineticssound, vggsound" in errors) == (2, True)
    code, errors = refused("check", "vggsound", tmp_path / "none")
    assert (code, "got nothing there" in errors) == (1, True)
    code, errors = refused("check", "food101", food, "--layout", "clips")
    assert (code, "layout of food101" in errors) == (2, True)
    code, errors = refused("check", "vggsound", vgg, "--tokenizer", "words")
    assert (code, "has no text" in errors) == (2, True)
    missing = tmp_path / "no-tokenizer"
    missing.mkdir()
    cache = tmp_path / "cache"
    code, errors = refused("prepare", "food101", food, "--cache", cache, "--tokenizer", missing)
    assert (code, f"no tokenizer was found in the folder '{missing}'" in errors) == (2, True)
    assert not cache.exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("")
    code, errors = refused("prepare", "vggsound", vgg, "--cache", tmp_path / "mine")
    assert (code, "holds something other than a cache" in errors) == (2, True)


def test_options_that_do_not_fit_a_cache(rlmba, food, tmp_path):
    out = tmp_path / "c"
    assert rlmba("data", "prepare", "food101", food, "--cache", out, "--tokenizer", "words")[0] == 0
    code, _, errors = rlmba("data", "check", "food101", out, "--quick", "--tokenizer", "words")
    assert (code, "--tokenizer, --quick" in errors) == (2, True)
    code, _, errors = rlmba("data", "check", "vggsound", out)
    assert (code, "is a cache of 'food101'" in errors) == (1, True)
    code, _, errors = rlmba("data", "prepare", "food101", out, "--cache", tmp_path / "d")
    assert (code, "is a cache already" in errors) == (2, True)


def test_nothing_usable_is_exit_code_1(rlmba, tmp_path):
    root = tmp_path / "vgg"
    media_sets.make_vggsound(root, train=0, test=0, damages=("missing", "missing"))
    (root / "unrelated.mp4").write_bytes(b"")
    code, lines, errors = rlmba("data", "check", "vggsound", root)
    assert code == 1
    assert row(lines, "train", "105,243") == ["2", "0", "2", "0", "0", "0", "0"]
    assert "error: none of the 2 samples of vggsound listed" in errors


@pytest.mark.slow
def test_interrupted_it_says_how_to_go_on(tmp_path):
    root = tmp_path / "food"
    media_sets.make_food101(root, train=300, test=2)
    out = tmp_path / "c"
    command = [sys.executable, "-m", "rlmba", "data", "prepare", "food101", root, "--cache", out]
    process = subprocess.Popen(
        [*map(str, command), "--tokenizer", "words", "--workers", "1"],
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not list((out / "shards").glob("*.json")):
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted; the same command continues from there"


@pytest.mark.slow
def test_bar_on_a_terminal(food, tmp_path):
    """On a real terminal the bar is drawn and removed, and the report stays."""
    main_end, end = pty.openpty()
    command = [sys.executable, "-m", "rlmba", "data", "check", "food101", str(food)]
    process = subprocess.Popen(
        [*command, "--tokenizer", "words"],
        stdin=end,
        stdout=end,
        stderr=end,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(end)
    output = b""
    try:
        while data := os.read(main_end, 65536):
            output += data
    except OSError:  # the other end was closed
        pass
    assert process.wait(30) == 0
    text = output.decode()
    assert "━" in text
    assert "checked: 21 of 21" not in text
    assert "split checksum of the 21 samples usable" in text
