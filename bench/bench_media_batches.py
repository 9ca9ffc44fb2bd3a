"""Model-ready batches of 32, augmented as in training, in samples/s, compared with a naive loop.

"cache" reads memory-mapped arrays with the shapes of a cache; "raw" decodes clips of realistic size (10 s,
340x256, 25 frames/s, H.264 and AAC). The naive loop prepares one sample at a time in one worker with
Pillow, torchvision's transforms and librosa's spectrogram in NumPy, and stacks them; its cache has the same
content as ours. Everything uses one thread, because threads of a batch wait for each other if another
process occupies a core. Before timing, all paths are compared on samples cropped as in evaluation.
"""

from __future__ import annotations

import math
from fractions import Fraction

import av
import numpy as np
import PIL.Image
import pytest
import torch
from torchvision.transforms import v2

from rlmba.data.media.catalogue import Sample, Source
from rlmba.data.media.content import Recipe
from rlmba.data.media.dataset import MediaDataset
from rlmba.data.media.reader import RawReader
from rlmba.data.media.spectrogram import MEAN, STD
from rlmba.data.media.transforms import (
    BLUR_SIGMA,
    IMAGE_MEAN,
    IMAGE_STD,
    STRENGTH,
    VIDEO_MEAN,
    VIDEO_STD,
)

BATCH = 32
PREPARED = 256
CLIPS = 4
SETS = {"clips": ("video", "audio"), "recipes": ("text", "image")}


class Arrays:
    """A reader of memory-mapped arrays, like a cache."""

    def __init__(self, arrays):
        self.arrays = arrays

    def read(self, position):
        return {m: a[position] for m, a in self.arrays.items()}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    rng = np.random.default_rng(0)
    shapes = {
        "video": ((10, 128, 171, 3), np.uint8, 0, 256),
        "audio": ((160_000,), np.int16, -9000, 9000),
        "image": ((256, 341, 3), np.uint8, 0, 256),
        "text": ((100,), np.int32, 0, 30_000),
    }
    arrays = {}
    for m, (shape, dtype, low, high) in shapes.items():
        np.save(folder / f"{m}.npy", rng.integers(low, high, (PREPARED, *shape), dtype))
        arrays[m] = np.load(folder / f"{m}.npy", mmap_mode="r")
    return arrays


def write_clip(path, seed):
    """10 s of a moving texture with a tone, which compresses about as well as real video."""
    rng = np.random.default_rng(seed)
    wide = PIL.Image.fromarray(rng.integers(0, 256, (32, 85, 3), np.uint8))
    texture = np.asarray(wide.resize((680, 256), PIL.Image.Resampling.BICUBIC))
    sound = (9000 * np.sin(np.arange(441_000) * (0.03 + 0.01 * seed))).astype(np.int16)
    with av.open(str(path), "w") as out:
        pictures = out.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        pictures.width, pictures.height, pictures.pix_fmt = 340, 256, "yuv420p"
        voice = out.add_stream("aac", rate=44_100, layout="mono")
        for k in range(250):
            image = np.roll(texture, 2 * k, axis=1)[:, :340]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(pictures.encode(frame))
        frame = av.AudioFrame.from_ndarray(sound[None], "s16", "mono")
        frame.sample_rate, frame.pts = 44_100, 0
        out.mux(voice.encode(frame))
        out.mux(pictures.encode(None))
        out.mux(voice.encode(None))


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    found = []
    for k in range(CLIPS):
        path = folder / f"{k}.mp4"
        write_clip(path, k)
        found.append(
            Sample(str(k), k % 2, False, dict.fromkeys(SETS["clips"], Source("clip", path)))
        )
    return found


def dataset(reader, n, modalities):
    return MediaDataset(
        "bench",
        reader,
        ids=[str(i) for i in range(n)],
        labels=np.arange(n) % 2,
        classes=["a", "b"],
        test=np.zeros(n, np.bool_),
        modalities=modalities,
        recipe=Recipe(),
        vocabulary=30_000,
    )


def naive_clip(sample):
    """A clip's ten frames and sound; all frames are decoded, converted to RGB and resized by Pillow."""
    path = str(sample.sources["video"].path)
    with av.open(path) as file:
        frames = [
            f.to_image().resize((171, 128), PIL.Image.Resampling.BILINEAR)
            for f in file.decode(video=0)
        ]
    with av.open(path) as file:
        resampler = av.AudioResampler("s16", "mono", 16_000)
        sound = [g.to_ndarray()[0] for f in file.decode(audio=0) for g in resampler.resample(f)]
    sound = np.concatenate([*sound, np.zeros(160_000, np.int16)])[:160_000]
    chosen = ((np.arange(10) + 0.5) * len(frames) / 10).astype(int)
    return {"video": np.stack([np.asarray(frames[k]) for k in chosen]), "audio": sound}


def naive_spectrogram(sound):
    """The computation of librosa: padding, framing, window, transform of each frame, in float32."""
    x = np.pad(sound.astype(np.float32) / 32768, 256, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(x, 512)[::159]
    window = (0.5 - 0.5 * np.cos(2 * math.pi * np.arange(512) / 512)).astype(np.float32)
    s = np.fft.rfft(frames * window, axis=1).T
    return torch.from_numpy(((np.log(np.abs(s) + 1e-7) - MEAN) / STD).astype(np.float32))[None]


IMAGE_STEPS = {
    True: v2.Compose(
        [
            v2.RandomCrop(224),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(*STRENGTH)], 0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(23, BLUR_SIGMA)], 0.5),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGE_MEAN, IMAGE_STD),
        ]
    ),
    False: v2.Compose(
        [
            v2.CenterCrop(224),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGE_MEAN, IMAGE_STD),
        ]
    ),
}
VIDEO_STEPS = {
    train: v2.Compose(
        [
            *([v2.RandomCrop(112), v2.RandomHorizontalFlip()] if train else [v2.CenterCrop(112)]),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(VIDEO_MEAN, VIDEO_STD),
        ]
    )
    for train in (True, False)
}


def naive_sample(arrays, train):
    out = {}
    for m, a in arrays.items():
        if m == "video":
            frames = np.sort(np.random.permutation(10)[:5]) if train else np.arange(1, 10, 2)  # noqa: NPY002
            clip = torch.from_numpy(a[frames]).permute(0, 3, 1, 2)
            out[m] = VIDEO_STEPS[train](clip).transpose(0, 1)
        elif m == "audio":
            start = np.random.randint(80_001) if train else 40_000  # noqa: NPY002
            out[m] = naive_spectrogram(a[start : start + 80_000])
        elif m == "image":
            out[m] = IMAGE_STEPS[train](PIL.Image.fromarray(a))
        else:
            out[m] = torch.from_numpy(a.astype(np.int64))
    return out


def naive_batch(read, positions, train):
    rows = [naive_sample(read(p), train) for p in positions.tolist()]
    return {m: torch.stack([r[m] for r in rows]) for m in rows[0]}


def our_batch(data, positions, train):
    generator = torch.Generator().manual_seed(0) if train else None
    return data.batch(positions, train=train, generator=generator).inputs


def record(benchmark, n):
    benchmark.extra_info.update(
        samples=n, samples_per_second=round(n / benchmark.stats.stats.min, 1)
    )


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("form", ["rlmba", "naive"])
def bench_from_cache(benchmark, prepared, kind, form):
    benchmark.group = f"{BATCH} {kind} from a cache"
    arrays = {m: prepared[m] for m in SETS[kind]}
    data = dataset(Arrays(arrays), PREPARED, SETS[kind])
    positions = np.random.default_rng(1).integers(0, PREPARED, BATCH)
    read = data.reader.read
    for m, x in our_batch(data, positions, False).items():
        torch.testing.assert_close(
            x, naive_batch(read, positions, False)[m], rtol=0, atol=2e-3 if m == "audio" else 1e-5
        )
    if form == "rlmba":
        benchmark(our_batch, data, positions, True)
    else:
        benchmark(naive_batch, read, positions, True)
    record(benchmark, BATCH)


@pytest.mark.parametrize("form", ["rlmba", "naive"])
def bench_from_clips(benchmark, samples, form):
    """The same frames through two conversions and resizers: 4.4 of 255 levels apart on average here.

    The frame before or after would be 16 or more apart.
    """
    benchmark.group = f"{CLIPS} clips from their files"
    data = dataset(RawReader(samples, Recipe()), CLIPS, SETS["clips"])
    positions = np.arange(CLIPS)

    def read(position):
        return naive_clip(samples[position])

    ours, naive = our_batch(data, positions, False), naive_batch(read, positions, False)
    assert ours["video"].shape == naive["video"].shape
    assert (ours["video"] - naive["video"]).abs().mean() * min(VIDEO_STD) * 255 < 6
    loud = naive["audio"] > 0
    assert (ours["audio"] - naive["audio"])[loud].abs().max() < 0.2
    if form == "rlmba":
        benchmark.pedantic(our_batch, (data, positions, True), rounds=3, warmup_rounds=0)
    else:
        benchmark.pedantic(naive_batch, (read, positions, True), rounds=3, warmup_rounds=0)
    record(benchmark, CLIPS)
