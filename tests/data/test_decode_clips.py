"""Video of clips: the frames equal those of a full decode, and each kind of damage is reported."""

import shutil
import subprocess
import sys
from dataclasses import replace

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import Interpolation, VideoReformatter
from torchvision.transforms.v2 import functional

from rlmba.data.media import clips, packets
from rlmba.data.media.clips import read_clip
from rlmba.data.media.content import Recipe
from tests.helpers import media_files

RECIPE = Recipe()
SMALL = replace(RECIPE, frame_size=(48, 64))
BITS = 9


def numbered(number, size=(96, 64), rng=None):
    """A picture that holds its number in black and white columns, over texture that moves."""
    width, height = size
    rng = rng or np.random.default_rng(0)
    rows = np.sin((np.arange(height)[:, None] + number) / 5) + np.cos(np.arange(width) / 7)
    image = np.repeat((128 + 40 * rows)[..., None], 3, axis=2)
    image += rng.normal(0, 4, image.shape)
    bits = (number >> np.arange(BITS)) & 1
    image[: height // 2] = 235 * bits[np.arange(width) * BITS // width][None, :, None] + 10
    return image.clip(0, 255).astype(np.uint8)


def number_of(picture):
    """The number that :func:`numbered` wrote."""
    height, width, _ = picture.shape
    centers = (np.arange(BITS) + 0.5) * width / BITS
    return int(
        ((picture[height // 8, centers.astype(int)].mean(-1) > 128) << np.arange(BITS)).sum()
    )


def write(
    path, frames=250, *, codec="libx264", fps=25, options=None, pts=None, size=(96, 64), **more
):
    """A clip of numbered frames; ``pts`` are times in units of 1 / fps / 40."""
    rng = np.random.default_rng(1)
    with av.open(str(path), "w", format=more.get("format")) as out:
        stream = out.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = more.get("pix_fmt", "yuv420p")
        stream.options = options or {}
        if "rotate" in more:
            stream.set_display_rotation(more["rotate"])
        for k in range(frames):
            image = numbered(more.get("number", lambda k: k)(k), size, rng)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if pts is not None:
                frame.pts = int(pts[k])
                frame.time_base = stream.codec_context.time_base = more["unit"]
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def video(path, recipe=SMALL):
    return read_clip(path, recipe, ["video"])["video"]


def full(path, recipe=SMALL):
    """The wanted frames by way of all frames: decoded one after the other, then chosen."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        avi = container.format.name == "avi"
    first = min(f.pts for f in frames)
    times = [float((f.pts - first) * f.time_base) for f in frames]
    if avi:
        # Its packets have numbers, not times.
        times = [k / 25 for k in range(len(frames))]
    gap = times[-1] - times[-2] if len(times) > 1 else 0.04
    length = min(recipe.seconds, times[-1] + gap)
    height, width = recipe.frame_size
    chosen = []
    for i in range(recipe.frames):
        t = (i + 0.5) * length / recipe.frames + 1e-6
        chosen.append(max((k for k in range(len(frames)) if times[k] <= t), key=lambda k: times[k]))
    reformatter = VideoReformatter()
    return np.stack(
        [
            reformatter.reformat(
                frames[k], width, height, "rgb24", interpolation=Interpolation.BILINEAR
            ).to_ndarray()
            for k in chosen
        ]
    )


KINDS = {
    "x264 default": (".mp4", {}),
    "x264 no pyramid": (".mp4", {"options": {"b-pyramid": "none", "bf": "3"}}),
    "x264 strict pyramid": (".mkv", {"options": {"b-pyramid": "strict", "bf": "5"}}),
    "x264 baseline": (".mp4", {"options": {"profile": "baseline"}}),
    "x264 group of 30": (".mp4", {"options": {"g": "30", "keyint_min": "30"}}),
    "x264 open groups": (".mp4", {"options": {"g": "20", "x264-params": "open-gop=1"}}),
    "x264 refresh": (".mp4", {"options": {"x264-params": "intra-refresh=1:keyint=40"}}),
    "x264 interlaced": (".mp4", {"options": {"x264-params": "tff=1:bframes=3"}}),
    "x264 two references": (".mp4", {"options": {"refs": "2", "bf": "8", "b_strategy": "0"}}),
    "x264 in a stream": (".ts", {}),
    "x264 in AVI": (".avi", {"options": {"bf": "0"}}),
    "x264 with B frames in AVI": (".avi", {}),
    "mpeg4": (".avi", {"codec": "mpeg4"}),
    "mpeg4 with B frames": (".mp4", {"codec": "mpeg4", "options": {"bf": "2"}}),
    "vp8": (".webm", {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8"}}),
    "vp8 hidden frames": (
        ".webm",
        {
            "codec": "libvpx",
            "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8", "g": "40"},
        },
    ),
    "vp9": (
        ".webm",
        {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "g": "40"}},
    ),
    "mjpeg": (".avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_frames_are_those_of_a_full_decode(kind, tmp_path):
    """Bit by bit, whatever was not decoded; and the numbers written on them are those of their times."""
    suffix, options = KINDS[kind]
    path = write(tmp_path / f"clip{suffix}", **options)
    content = video(path)
    assert content.problem == ""
    assert content.flags == ()
    np.testing.assert_array_equal(content.array, full(path))
    assert [number_of(p) for p in content.array] == [25 * i + 12 for i in range(10)]


@pytest.mark.parametrize("seconds", [0.9, 2.5, 7.3])
@pytest.mark.parametrize("frames", [1, 4, 16])
def test_other_recipes(seconds, frames, tmp_path):
    path = write(tmp_path / "clip.mp4", 100, options={"g": "33"})
    recipe = replace(SMALL, frames=frames, seconds=seconds)
    content = video(path, recipe)
    np.testing.assert_array_equal(content.array, full(path, recipe))


def sent(path, monkeypatch):
    """Packets of a clip that reach the decoder."""
    seen = []
    plain = packets.necessary
    monkeypatch.setattr(
        clips, "necessary", lambda *a, **k: [seen.append(1) or s for s in plain(*a, **k)]
    )
    video(path)
    return len(seen)


def test_what_is_not_needed_is_not_decoded(tmp_path, monkeypatch):
    """Half of x264's frames are no references; of a group nothing after its last wanted frame."""
    assert sent(write(tmp_path / "a.mp4"), monkeypatch) <= 0.6 * 250
    short = {"profile": "baseline", "g": "25", "keyint_min": "25", "sc_threshold": "0"}
    monkeypatch.undo()
    # The wanted frame is number 12 of each 25.
    assert sent(write(tmp_path / "b.mp4", options=short), monkeypatch) == 130
    monkeypatch.undo()
    assert sent(write(tmp_path / "c.avi", codec="mpeg4"), monkeypatch) == 238


def test_beyond_the_seconds_nothing_is_read(tmp_path):
    path = write(tmp_path / "long.mp4", 500, options={"preset": "ultrafast"})
    content = video(path, replace(SMALL, seconds=4.0, frames=4))
    assert [number_of(p) for p in content.array] == [12, 37, 62, 87]


def test_variable_frame_rate(tmp_path):
    """The frame displayed at a time, however long it has been displayed."""
    from fractions import Fraction

    rng = np.random.default_rng(3)
    gaps = rng.integers(5, 400, 120)
    pts = np.concatenate([[0], np.cumsum(gaps)])[:120]
    path = write(tmp_path / "vfr.mp4", 120, pts=pts, unit=Fraction(1, 1000), fps=1000)
    content = video(path)
    want = [int(np.searchsorted(pts / 1000, i + 0.5, side="right")) - 1 for i in range(10)]
    assert [number_of(p) for p in content.array] == want
    np.testing.assert_array_equal(content.array, full(path))


@pytest.mark.parametrize("shift", [-40, 75])
def test_first_time_need_not_be_zero(shift, tmp_path):
    from fractions import Fraction

    pts = np.arange(250) + shift
    path = write(tmp_path / "shift.mkv", 250, pts=pts, unit=Fraction(1, 25))
    assert [number_of(p) for p in video(path).array] == [25 * i + 12 for i in range(10)]


def test_edit_list(tmp_path):
    """Frames before the first displayed one are decoded if they are referred to, but not displayed."""
    source = write(tmp_path / "whole.mp4", 250, options={"g": "250"})
    cut = tmp_path / "cut.mp4"
    with av.open(str(source)) as given, av.open(str(cut), "w") as out:
        stream = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = stream
                unit = packet.time_base
                packet.pts -= int(2 / unit)
                packet.dts -= int(2 / unit)
                out.mux(packet)
    content = video(cut, replace(SMALL, seconds=5.0, frames=5))
    with av.open(str(cut)) as container:
        shown = [number_of(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    assert shown[0] == 50
    assert [number_of(p) for p in content.array] == [50 + 12 + 25 * i for i in range(5)]


@pytest.mark.skipif(
    not hasattr(av.VideoStream, "set_display_rotation"), reason="this av cannot write rotated clips"
)
@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_rotated_as_phones_write_it(degrees, tmp_path):
    path = write(tmp_path / "turned.mp4", 50, rotate=degrees)
    plain = write(tmp_path / "plain.mp4", 50)
    content = video(path, replace(RECIPE, frame_size=(90, 60), seconds=2.0))
    assert content.flags == ("rotated",)
    size = (60, 90) if degrees % 180 else (90, 60)
    upright = video(plain, replace(RECIPE, frame_size=size, seconds=2.0))
    turned = np.rot90(upright.array, degrees // 90 % 4, axes=(1, 2))
    np.testing.assert_array_equal(content.array, turned)


def test_odd_sizes(tmp_path):
    path = write(tmp_path / "odd.avi", 30, codec="mjpeg", pix_fmt="yuvj444p", size=(131, 97))
    content = video(path, replace(RECIPE, seconds=1.0))
    assert content.array.shape == (10, 128, 171, 3)
    assert [number_of(p) for p in content.array] == [1, 3, 6, 8, 11, 13, 16, 18, 21, 23]


@pytest.mark.skipif(
    not hasattr(Interpolation, "ACCURATE_RND"), reason="this av cannot convert to RGB exactly"
)
def test_resize_is_that_of_torchvision(tmp_path):
    """Up to the rounding of conversion: the scaler resizes brightness and color before it makes RGB."""
    path = write(tmp_path / "clip.mp4", 50, size=(340, 256), options={"preset": "ultrafast"})
    content = video(path, replace(RECIPE, seconds=2.0))
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    flags = (
        Interpolation.BICUBIC
        | Interpolation.ACCURATE_RND
        | Interpolation.FULL_CHR_H_INT
        | Interpolation.FULL_CHR_H_INP
    )
    for picture, k in zip(content.array, range(2, 50, 5), strict=True):
        rgb = (
            VideoReformatter().reformat(frames[k], format="rgb24", interpolation=flags).to_ndarray()
        )
        whole = torch.from_numpy(rgb).permute(2, 0, 1)
        theirs = functional.resize(whole, [128, 171], antialias=True).permute(1, 2, 0).numpy()
        off = np.abs(theirs.astype(int) - picture)
        assert off.mean() < 1
        assert np.percentile(off, 99) <= 4


def test_still_and_short(tmp_path):
    still = media_files.write_clip(tmp_path / "still.mp4", still=True, seconds=10)
    assert video(still).flags == ("still",)
    moving = media_files.write_clip(tmp_path / "moving.mp4", seconds=10)
    assert video(moving).flags == ()
    single = write(tmp_path / "single.mp4", 1)
    assert video(single).flags == ("short", "still")
    short = video(media_files.write_clip(tmp_path / "short.mp4", seconds=3))
    assert short.flags == ("short",)
    assert len(short.array) == 10
    enough = media_files.write_clip(tmp_path / "enough.mp4", seconds=5)
    assert video(enough).flags == ()


def test_a_textured_picture_that_is_coded_again_and_again_is_still(tmp_path):
    still = write(tmp_path / "s.mp4", number=lambda k: 5, options={"crf": "28"})
    # The numbers' texture has noise of its own: without it only coding differs.
    with av.open(str(still), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.options = {"crf": "28", "g": "50"}
        image = numbered(77)
        for _ in range(250):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
    assert video(still).flags == ("still",)


def cut(path, fraction):
    media_files.truncate(path, fraction)
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".avi", ".webm", ".ts"])
def test_truncated(suffix, tmp_path):
    codec = {".webm": "libvpx", ".avi": "mpeg4"}.get(suffix, "libx264")
    quick = {".webm": {"deadline": "realtime", "cpu-used": "8"}}.get(suffix, {"bf": "0", "g": "50"})
    path = cut(write(tmp_path / f"a{suffix}", codec=codec, options=quick), 0.75)
    content = video(path)
    if suffix == ".ts":  # it says nowhere how long it should be
        assert content.problem == ""
        return
    assert content.flags == ("truncated",)
    numbers = [number_of(p) for p in content.array]
    assert numbers[:6] == [12, 37, 62, 87, 112, 137]
    np.testing.assert_array_equal(content.array[-1], content.array[-2])
    little = video(cut(path, 0.4))
    assert little.array is None
    assert little.problem.startswith("truncated: ")


def test_truncated_with_its_index_in_front(tmp_path):
    slow = write(tmp_path / "slow.mp4", options={"bf": "0"})
    front = {"movflags": "faststart"}
    with (
        av.open(str(slow)) as given,
        av.open(str(tmp_path / "fast.mp4"), "w", options=front) as out,
    ):
        stream = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    content = video(cut(tmp_path / "fast.mp4", 0.75))
    assert content.flags == ("truncated",)
    assert [number_of(p) for p in content.array[:6]] == [12, 37, 62, 87, 112, 137]
    # Its index at the end is lost with the end.
    assert video(cut(slow, 0.75)).problem == (
        "cannot be opened: Invalid data found when processing input"
    )


def test_damaged_in_the_middle(tmp_path):
    """A packet that cannot be decoded affects only its own frames."""
    path = write(tmp_path / "clip.mkv", options={"g": "25", "bf": "0"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    path.write_bytes(bytes(data))
    content = video(path)
    assert content.array is not None
    assert [number_of(content.array[i]) for i in (0, 1, 2)] == [12, 37, 62]


def test_not_a_clip(tmp_path):
    (tmp_path / "text.mp4").write_text("not found\n" * 50)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:10,\nhttp://example.invalid/a.ts\n")
    (tmp_path / "folder.mp4").mkdir()
    found = {
        p: video(tmp_path / p) for p in ("text.mp4", "empty.mp4", "list.mp4", "folder.mp4", "no")
    }
    assert all(c.array is None and c.problem and "\n" not in c.problem for c in found.values())
    assert found["empty.mp4"].problem == "the file is empty"
    assert found["no"].problem == "no such file"
    assert found["folder.mp4"].problem == "a folder, not a file"


def test_sound_alone_has_no_video(tmp_path):
    wav = media_files.write_wav(tmp_path / "a.wav")
    both = read_clip(wav, SMALL, ["video", "audio"])
    assert both["video"].problem == "no video track"
    assert both["audio"].array is not None
    mute = media_files.write_clip(tmp_path / "mute.mp4", audio=False, seconds=10)
    both = read_clip(mute, SMALL, ["video", "audio"])
    assert both["audio"].problem == "no audio track"
    assert both["video"].flags == ()


def test_wrong_extension(tmp_path):
    path = media_files.write_clip(tmp_path / "a.mp4", kind=".webm", seconds=10)
    both = read_clip(path, SMALL, ["video", "audio"])
    assert both["video"].problem == both["audio"].problem == ""


def test_cover_picture_is_no_video(tmp_path):
    path = tmp_path / "song.mp3"
    plain = media_files.write_clip(tmp_path / "a.avi", video=False)
    cover = media_files.write_image(tmp_path / "cover.jpg")
    with av.open(str(plain)) as given, av.open(str(cover)) as art, av.open(str(path), "w") as out:
        voice = out.add_stream_from_template(given.streams.audio[0])
        picture = out.add_stream_from_template(art.streams.video[0])
        picture.disposition = av.stream.Disposition.attached_pic.value
        for stream, source in ((picture, art), (voice, given)):
            for packet in source.demux():
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
    both = read_clip(path, SMALL, ["video", "audio"])
    assert both["video"].problem == "no video track"
    assert both["audio"].array is not None


def test_the_terminal_stays_clean(tmp_path):
    """Decoders complain much about damaged files."""
    path = write(tmp_path / "clip.mkv", 100)
    data = bytearray(path.read_bytes())
    data[2000:4000:3] = bytes(len(data[2000:4000:3]))
    path.write_bytes(bytes(data[:-500]))
    script = (
        "import sys; from pathlib import Path; from rlmba.data.media.clips import read_clip;"
        "from rlmba.data.media.content import Recipe;"
        "c = read_clip(Path(sys.argv[1]), Recipe(), ['video']); print(c['video'].problem)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_memory_error_passes(tmp_path, monkeypatch):
    def scarce(*_):
        raise MemoryError

    path = write(tmp_path / "clip.mp4", 5)
    monkeypatch.setattr(clips, "_gather", scarce)
    with pytest.raises(MemoryError):
        video(path)


def test_names_are_files_only(tmp_path):
    """A name that looks like a protocol or a pattern of FFmpeg's is a name."""
    source = write(tmp_path / "a.mp4", 30)
    for name in ("concat:a.mp4", "frame_%03d.mp4", "-id_000030.mp4", "ümläut.mp4"):
        shutil.copy(source, tmp_path / name)
        assert video(tmp_path / name).problem == ""
