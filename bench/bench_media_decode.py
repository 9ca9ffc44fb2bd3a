"""Decoding of clips and images, compared with the plain way: one complete sample at a time.

The plain way decodes each frame of a clip to a Pillow image, resizes the selected ones, and decodes the
complete sound. Its spectrogram, which ours computes for whole batches, is timed separately.
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import av
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from torchvision.transforms import v2

from rlmba.data.media.catalogue import Sample, Source
from rlmba.data.media.content import Recipe
from rlmba.data.media.decode import decode_sample

RECIPE = Recipe()
CLIPS, IMAGES = 8, 64
FPS, WIDTH, HEIGHT = 25, 340, 256


def world(rng, height, width):
    """A scene with detail at all scales, float [height, width, 3]."""
    noise = rng.normal(size=(height, width, 3))
    scales = ((1, 18), (3, 25), (12, 45), (40, 60))
    return 110 + sum(gaussian_filter(noise, (s, s, 0)) * s * a for s, a in scales)


def write_clip(path, seed):
    """10 s of a camera moving over a scene with moving objects, sensor noise and stereo sound."""
    rng = np.random.default_rng(seed)
    scene, thing = world(rng, 2 * HEIGHT, 2 * WIDTH), world(rng, 48, 64)
    n = int(RECIPE.seconds * FPS)
    camera = np.cumsum(rng.normal([0.3, 0.6], 1.2, (n, 2)), 0)
    camera += [HEIGHT / 2, WIDTH / 2]
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.options = {"crf": "23"}
        sound = out.add_stream("aac", rate=44_100, layout="stereo")
        for k in range(n):
            y, x = (camera[k].astype(int)) % (HEIGHT, WIDTH)
            image = scene[y : y + HEIGHT, x : x + WIDTH] + rng.normal(0, 2.5, (HEIGHT, WIDTH, 3))
            for j in range(3):
                top = int(100 + 90 * np.sin(0.05 * (j + 1) * k + j))
                left = int(130 + 120 * np.cos(0.04 * (j + 1) * k + 2 * j))
                image[top : top + 48, left : left + 64] = thing
            picture = image.clip(0, 255).astype(np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(video.encode(None))
        t = np.arange(int(RECIPE.seconds * 44_100)) / 44_100
        tone = 0.3 * np.sin(2 * np.pi * (300 + 50 * np.sin(t)) * t)
        both = np.stack([tone, 0.2 * rng.normal(size=t.size)]).astype(np.float32)
        for start in range(0, t.size, 44_100):
            part = np.ascontiguousarray(both[:, start : start + 44_100])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 44_100, start
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    paths = [folder / f"{k}.mp4" for k in range(CLIPS)]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(write_clip, paths, range(CLIPS)))
    return paths


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{k}.jpg" for k in range(IMAGES)]
    scene = world(np.random.default_rng(0), 384, 512).clip(0, 255).astype(np.uint8)
    for k, path in enumerate(paths):
        Image.fromarray(np.roll(scene, 7 * k, axis=1)).save(path, quality=90)
    return paths


def sample_of(path):
    form = "image" if path.suffix == ".jpg" else "clip"
    source = Source(form, path)
    modalities = ("image",) if form == "image" else ("video", "audio")
    return Sample(path.stem, 0, False, dict.fromkeys(modalities, source))


def ours(path):
    return {m: c.array for m, c in decode_sample(sample_of(path), RECIPE).items()}


def naive_clip(path):
    with av.open(str(path)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    spacing = len(frames) / RECIPE.frames
    wanted = [frames[int((k + 0.5) * spacing)] for k in range(RECIPE.frames)]
    height, width = RECIPE.frame_size
    video = np.stack([np.asarray(f.resize((width, height), Image.BILINEAR)) for f in wanted])
    resampler = av.AudioResampler("s16", "mono", RECIPE.sample_rate)
    with av.open(str(path)) as container:
        parts = [o for f in container.decode(audio=0) for o in resampler.resample(f)]
    parts += resampler.resample(None)
    sound = np.concatenate([p.to_ndarray()[0] for p in parts])
    return {"video": video, "audio": sound[: round(RECIPE.seconds * RECIPE.sample_rate)]}


def spectrogram(sound):
    """log |STFT| of 5 s, windows of 512 with 353 shared, as librosa computes it: float32 [257, 504]."""
    rate = RECIPE.sample_rate
    middle = sound[int(2.5 * rate) : int(7.5 * rate)].astype(np.float32) / 32768
    padded = np.pad(middle, 256, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 512)[::159]
    spectrum = np.fft.rfft(windows * np.hanning(513)[:-1].astype(np.float32), axis=1).T
    return np.log(np.abs(spectrum) + 1e-7)


def naive_image(path):
    with Image.open(path) as image:
        return np.asarray(v2.Resize(RECIPE.image_side)(image.convert("RGB")))


def all_of(read, paths, used):
    """Read all in this process; ``used`` collects CPU seconds per sample over all threads."""
    start = time.process_time()
    for path in paths:
        read(path)
    used.append((time.process_time() - start) / len(paths))


def record(benchmark, count, used=()):
    best = benchmark.stats.stats.min
    benchmark.extra_info["samples_per_second"] = round(count / best, 2)
    if used:
        benchmark.extra_info["processor_milliseconds_a_sample"] = round(1e3 * min(used), 1)
    print(benchmark.name, benchmark.extra_info)


@pytest.fixture(scope="module")
def workers():
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(abs, range(4)))
        yield pool


def same(clip):
    """The sound is equal; frames differ by the YUV conversion, in which the plain way loses a level."""
    mine, theirs = ours(clip), naive_clip(clip)
    np.testing.assert_array_equal(mine["audio"], theirs["audio"])
    off = np.abs(mine["video"].astype(int) - theirs["video"])
    assert off.mean() < 2
    assert np.percentile(off, 99) <= 6


def test_clips_two_processes(benchmark, clips, workers):
    same(clips[0])
    benchmark.group = f"{CLIPS} clips of 10 s, 340 x 256, 25 frames a second"
    benchmark.pedantic(lambda: list(workers.map(ours, clips)), rounds=3, warmup_rounds=1)
    record(benchmark, CLIPS)


def test_clips_one_process(benchmark, clips):
    same(clips[0])
    benchmark.group = f"{CLIPS} clips of 10 s, 340 x 256, 25 frames a second"
    used = []
    benchmark.pedantic(lambda: all_of(ours, clips, used), rounds=2, warmup_rounds=1)
    record(benchmark, CLIPS, used)


def test_clips_plain(benchmark, clips):
    same(clips[0])
    benchmark.group = f"{CLIPS} clips of 10 s, 340 x 256, 25 frames a second"
    used = []
    benchmark.pedantic(lambda: all_of(naive_clip, clips, used), rounds=2, warmup_rounds=1)
    record(benchmark, CLIPS, used)
    benchmark.extra_info["bytes_per_clip"] = int(np.mean([c.stat().st_size for c in clips]))


def test_plain_spectrogram(benchmark, clips):
    """An additional cost of the plain way for each clip; ours computes it for a whole batch."""
    benchmark.group = "spectrogram of one clip"
    sound = naive_clip(clips[0])["audio"]
    assert benchmark(lambda: spectrogram(sound)).shape == (257, 504)


def test_images_two_processes(benchmark, images, workers):
    np.testing.assert_array_equal(ours(images[0])["image"], naive_image(images[0]))
    benchmark.group = f"{IMAGES} JPEG images of 512 x 384"
    run = partial(workers.map, ours, images, chunksize=8)
    benchmark.pedantic(lambda: list(run()), rounds=5, warmup_rounds=1)
    record(benchmark, IMAGES)


def test_images_one_process(benchmark, images):
    benchmark.group = f"{IMAGES} JPEG images of 512 x 384"
    used = []
    benchmark.pedantic(lambda: all_of(ours, images, used), rounds=5, warmup_rounds=1)
    record(benchmark, IMAGES, used)


def test_images_plain(benchmark, images):
    benchmark.group = f"{IMAGES} JPEG images of 512 x 384"
    used = []
    benchmark.pedantic(lambda: all_of(naive_image, images, used), rounds=5, warmup_rounds=1)
    record(benchmark, IMAGES, used)
