"""The page's server: files and texts of samples."""

from __future__ import annotations

import io
import os
import socket

import numpy as np
import pytest
from PIL import Image

from rlmba.annotators import LabelBatch, Question
from tests.helpers.browser_project import CLASSES, HOSTILE, Client, Project
from tests.helpers.media_files import write_clip, write_image


def questions(n, **more):
    return LabelBatch(
        0, CLASSES, False, {}, tuple(Question(f"s{k}", k + 1) for k in range(n)), **more
    )


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
        ("video", "do not play .avi"), ("clip", "do not play .mkv"), ("gone", "is missing"),
        ("folder", "not a file"), ("other", "cannot show this type"), ("empty", "cannot be read"),
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


@pytest.mark.slow
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
        LabelBatch(0, CLASSES, False, {}, (Question("a", 1, texts={"text": "x" * 20_007}),))
    )
    with project.start() as server:
        told = Client(server.url).get("/api/question", ticket="round_000", id="a").json()
    assert (len(told["texts"][0]["text"]), told["texts"][0]["cut"]) == (20_000, 7)
