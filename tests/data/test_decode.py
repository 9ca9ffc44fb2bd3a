"""Samples of every form; folders of frames; the reader."""

import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from rlmba.data.media import decode
from rlmba.data.media.catalogue import Sample, Source
from rlmba.data.media.content import Recipe
from rlmba.data.media.decode import decode_sample
from rlmba.data.media.frames import is_still, midpoints, read_frames
from rlmba.data.media.reader import RawReader
from rlmba.errors import UsageError
from tests.helpers import media_files

RECIPE = Recipe(
    image_side=32, frames=4, frame_size=(24, 32), seconds=2.0, tokens=8, tokenizer="words"
)


def sample(**sources):
    return Sample("s", 0, False, sources)


def food(tmp_path, text="flour, sugar"):
    image = media_files.write_image(tmp_path / "a.jpg")
    return sample(text=Source("text", text=text), image=Source("image", image))


def test_text_and_image(tmp_path):
    contents = decode_sample(food(tmp_path), RECIPE)
    assert list(contents) == ["text", "image"]
    assert contents["text"].array.dtype == np.int32
    assert contents["text"].array.shape == (8,)
    assert (contents["text"].array >= 0).sum() == 2
    assert contents["image"].array.shape == (32, 42, 3)


def test_clip_and_frames_with_sound(tmp_path):
    path = media_files.write_clip(tmp_path / "a.mp4", seconds=2)
    clip = decode_sample(sample(video=Source("clip", path), audio=Source("clip", path)), RECIPE)
    frames = media_files.write_frames(tmp_path / "f")
    wav = media_files.write_wav(tmp_path / "a.wav", seconds=2)
    parts = decode_sample(sample(video=Source("frames", frames), audio=Source("wav", wav)), RECIPE)
    for contents in (clip, parts):
        assert list(contents) == ["video", "audio"]
        assert contents["video"].array.shape == (4, 24, 32, 3)
        assert contents["video"].array.dtype == np.uint8
        assert contents["audio"].array.shape == (32_000,)
        assert contents["audio"].array.dtype == np.int16
        assert all(c.flags == () for c in contents.values())


def test_two_sources_of_one_file_are_one_pass(tmp_path, monkeypatch):
    path = media_files.write_clip(tmp_path / "a.mp4", seconds=1)
    calls = []
    real = decode.read_clip
    monkeypatch.setattr(decode, "read_clip", lambda *a: calls.append(a) or real(*a))
    decode_sample(sample(video=Source("clip", path), audio=Source("clip", path)), RECIPE)
    assert len(calls) == 1


def test_missing(tmp_path):
    contents = decode_sample(sample(video=None, audio=Source("wav", tmp_path / "no.wav")), RECIPE)
    assert contents["video"].problem == "missing"
    assert contents["audio"].problem == "no such file"
    assert contents["video"].array is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [("", "the text is empty"), (" \n\t", "the text is empty"), ("?!", "the text holds no word")],
)
def test_text_of_nothing(text, problem, tmp_path):
    content = decode_sample(food(tmp_path, text), RECIPE)["text"]
    assert content.array is None
    assert content.problem == problem


def test_text_files(tmp_path):
    path = tmp_path / "a.txt"

    def read():
        return decode_sample(sample(text=Source("text", path)), RECIPE)["text"]

    assert read().problem == "no such file"
    path.write_bytes(b"")
    assert read().problem == "the file is empty"
    path.write_text("Crème brûlée", encoding="utf-8")
    plain = read()
    path.write_text("Crème brûlée", encoding="utf-8-sig")
    np.testing.assert_array_equal(read().array, plain.array)
    path.write_text("Crème brûlée", encoding="cp1252")
    np.testing.assert_array_equal(read().array, plain.array)
    assert read().flags == ("converted",)
    assert plain.flags == ()


def test_forms_that_cannot_be(tmp_path):
    path = media_files.write_wav(tmp_path / "a.wav")
    with pytest.raises(UsageError, match="not 'image'"):
        decode_sample(sample(image=Source("wav", path)), RECIPE)
    with pytest.raises(UsageError, match="without a path"):
        decode_sample(sample(image=Source("image")), RECIPE)


def numbered_frames(path, count, first=0):
    path.mkdir()
    for k in range(count):
        picture = np.full((48, 64, 3), 10 * k + 20, np.uint8)
        Image.fromarray(picture).save(path / f"frame_{first + k}.jpg", quality=95)
    return path


def shown(content):
    return [round((int(f[12, 16, 0]) - 20) / 10) for f in content.array]


@pytest.mark.parametrize(
    ("count", "expected"), [(10, [1, 3, 6, 8]), (4, [0, 1, 2, 3]), (12, [1, 4, 7, 10])]
)
def test_frames_in_the_order_of_numbers(count, expected, tmp_path):
    content = read_frames(numbered_frames(tmp_path / "f", count, first=5), RECIPE)
    assert shown(content) == expected
    assert content.flags == ()


def test_few_frames(tmp_path):
    content = read_frames(numbered_frames(tmp_path / "f", 1), RECIPE)
    assert shown(content) == [0, 0, 0, 0]
    assert content.flags == ("short", "still")
    assert read_frames(media_files.write_frames(tmp_path / "s", still=True), RECIPE).flags == (
        "still",
    )


def test_unreadable_frames_are_passed_over(tmp_path):
    folder = numbered_frames(tmp_path / "f", 8)
    assert shown(read_frames(folder, RECIPE)) == [1, 3, 5, 7]
    media_files.truncate(folder / "frame_3.jpg", 0.5)
    (folder / "frame_7.jpg").write_bytes(b"")
    content = read_frames(folder, RECIPE)
    # Of 0 1 2 4 5 6 the midpoints of quarters.
    assert shown(content) == [0, 2, 4, 6]
    assert content.flags == ("truncated",)
    for k in (0, 1, 2, 4):
        (folder / f"frame_{k}.jpg").write_bytes(b"no")
    content = read_frames(folder, RECIPE)
    assert content.array is None
    assert content.problem.endswith("of 8 frames cannot be read")


def test_folders_of_no_frames(tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "cover.jpg").write_bytes(b"")
    assert read_frames(tmp_path / "f", RECIPE).problem == "the folder holds no frame_<k>.jpg"
    assert read_frames(tmp_path / "no", RECIPE).problem == "no such folder"
    (tmp_path / "file").write_bytes(b"x")
    assert "\n" not in read_frames(tmp_path / "file", RECIPE).problem


def test_stillness():
    noise = np.random.default_rng(0).integers(-5, 6, (6, 8, 8, 3))
    still = (100 + noise).astype(np.uint8)
    assert is_still(still)
    assert is_still(still[:1])
    still[4, 3, 3] += 40
    assert not is_still(still)


def test_midpoints():
    np.testing.assert_allclose(midpoints(10, 10.0), np.arange(10) + 0.5)
    np.testing.assert_allclose(midpoints(1, 3.0), [1.5])


def test_reader(tmp_path):
    good = food(tmp_path)
    bad = sample(text=Source("text", text=""), image=None)
    reader = RawReader([good, bad], RECIPE)
    assert set(reader.read(0)) == {"text", "image"}
    assert reader.problems == {}
    arrays = reader.read(np.int64(1))
    assert arrays == {"text": None, "image": None}
    assert reader.problems == {(1, "text"): "the text is empty"}
    copy = pickle.loads(pickle.dumps(reader))
    assert copy.problems == {}
    np.testing.assert_array_equal(copy.read(0)["image"], reader.read(0)["image"])


def test_no_tokenizer(tmp_path):
    with pytest.raises(UsageError, match="needs a tokenizer"):
        decode_sample(food(tmp_path), replace(RECIPE, tokenizer=""))


def test_arrays_can_be_written_to(tmp_path):
    """torch needs writable arrays."""
    path = media_files.write_clip(tmp_path / "a.mp4", seconds=1)
    contents = decode_sample(sample(video=Source("clip", path), audio=Source("clip", path)), RECIPE)
    contents |= decode_sample(food(tmp_path), RECIPE)
    assert all(c.array.flags.writeable and c.array.flags.c_contiguous for c in contents.values())


def test_importing_is_light():
    script = (
        "import sys, rlmba.data, rlmba.data.media.decode, rlmba.data.media.reader;"
        "print([m for m in ('torch', 'av', 'PIL', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
