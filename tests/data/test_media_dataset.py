from __future__ import annotations

import os
import pickle
import shutil
import warnings
from collections import namedtuple

import numpy as np
import pytest
import torch

from rlmba.data.media.content import Recipe
from rlmba.data.media.dataset import MediaDataset
from rlmba.errors import DataError, RlmbaWarning, UsageError
from rlmba.training.loading import BatchRequest, Loader

N = 8
CPU = torch.device("cpu")


class ArrayReader:
    """Rows of arrays, as a cache gives them; those named are as if their files were broken."""

    def __init__(self, arrays, broken=()):
        self.arrays = arrays
        self.broken = set(broken)
        self.reads = []

    def read(self, position):
        self.reads.append(position)
        return {
            m: None if (position, m) in self.broken else a[position] for m, a in self.arrays.items()
        }


def clips():
    rng = np.random.default_rng(0)
    return {
        "video": rng.integers(0, 256, (N, 10, 128, 171, 3), np.uint8),
        "audio": rng.integers(-9000, 9000, (N, 160_000), np.int16),
    }


def recipes():
    rng = np.random.default_rng(1)
    text = rng.integers(0, 30_000, (N, 100)).astype(np.int32)
    text[:, 60:] = -1
    return {"text": text, "image": rng.integers(0, 256, (N, 256, 290, 3), np.uint8)}


def dataset(arrays, broken=(), kind=MediaDataset, **changes):
    given = {
        "ids": [f"id{i}" for i in range(N)],
        "labels": np.arange(N) % 3,
        "classes": ["a", "b", "c"],
        "test": np.arange(N) >= 6,
        "modalities": list(arrays),
        "recipe": Recipe(),
        "vocabulary": 30_000,
        "content": "0",
        **changes,
    }
    return kind("media", ArrayReader(arrays, broken), **given)


@pytest.fixture(scope="module")
def clip_arrays():
    return clips()


@pytest.fixture(scope="module")
def recipe_arrays():
    return recipes()


def test_what_it_says_of_itself(clip_arrays, recipe_arrays):
    data = dataset(clip_arrays)
    assert len(data) == N
    assert data.train_positions.tolist() == [0, 1, 2, 3, 4, 5]
    assert data.test_positions.tolist() == [6, 7]
    assert data.present is None
    video, audio = data.modalities
    assert (video.name, video.kind, video.shape) == ("video", "video", (3, 5, 112, 112))
    assert video.mean == (0.43216, 0.394666, 0.37645)
    assert video.deviation == (0.22803, 0.22145, 0.216989)
    assert (audio.name, audio.kind, audio.shape) == ("audio", "spectrogram", (1, 257, 504))
    text, image = dataset(recipe_arrays).modalities
    assert (text.kind, text.dtype, text.shape, text.vocabulary, text.padding) == (
        "tokens",
        "int64",
        (100,),
        30_000,
        -1,
    )
    assert (image.kind, image.shape) == ("image", (3, 224, 224))
    assert (image.mean, image.deviation) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_what_is_loaded_is_compact(clip_arrays, recipe_arrays):
    positions = np.array([5, 0, 5])
    batch = dataset(clip_arrays).load(positions, train=False, generator=None)
    assert batch.draws is None
    assert batch.present is None
    video, audio = batch.inputs["video"], batch.inputs["audio"]
    assert (video.dtype, tuple(video.shape)) == (torch.uint8, (3, 5, 3, 112, 112))
    assert (audio.dtype, tuple(audio.shape)) == (torch.int16, (3, 80_000))
    middle = clip_arrays["video"][5, 1::2, 8:120, 30:142].transpose(0, 3, 1, 2)
    assert np.array_equal(video[2].numpy(), middle)
    assert np.array_equal(audio[1].numpy(), clip_arrays["audio"][0, 40_000:120_000])

    train = dataset(recipe_arrays).load(positions, train=True, generator=torch.Generator())
    text, image = train.inputs["text"], train.inputs["image"]
    assert (image.dtype, tuple(image.shape)) == (torch.uint8, (3, 3, 224, 224))
    assert np.array_equal(text.numpy(), recipe_arrays["text"][positions])
    assert {k: tuple(v.shape) for k, v in train.draws.items()} == {
        "image.flip": (3,),
        "image.factors": (3, 4),
        "image.order": (3, 4),
        "image.grayscale": (3,),
        "image.sigma": (3,),
    }


@pytest.mark.parametrize("arrays", ["clip_arrays", "recipe_arrays"])
def test_batches_follow_seed_and_nothing_else(arrays, request):
    data = dataset(request.getfixturevalue(arrays))
    chunks = [np.array([1, 2]), np.array([3, 1])]
    first = list(Loader(data).batches(chunks, train=True, seed=3))
    torch.manual_seed(99)
    again = list(Loader(data).batches(chunks, train=True, seed=3))
    other = list(Loader(data).batches(chunks, train=True, seed=4))
    plain = list(Loader(data).batches(chunks))
    for modality in data.modalities:
        for a, b in zip(first, again, strict=True):
            assert torch.equal(a.inputs[modality.name], b.inputs[modality.name])
            x = a.inputs[modality.name]
            assert str(x.dtype) == f"torch.{modality.dtype}"
            assert x.shape == (2, *modality.shape)
            assert x.isfinite().all()
        if modality.kind != "tokens":
            # The same sample twice: augmented differently in training, equal in evaluation.
            name = modality.name
            assert not torch.equal(first[0].inputs[name], other[0].inputs[name])
            assert not torch.equal(first[0].inputs[name][0], first[1].inputs[name][1])
            assert torch.equal(plain[0].inputs[name][0], plain[1].inputs[name][1])


def assert_close(name, found, expected):
    """Up to the rounding of blurs and Fourier transforms, which may depend on the size of a batch."""
    if name == "audio":  # magnitudes: the logarithm enlarges the rounding of small ones
        found, expected = (torch.exp(3.0475 * x - 3.0352) for x in (found, expected))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4 if name == "audio" else 2e-5)


@pytest.mark.parametrize("arrays", ["clip_arrays", "recipe_arrays"])
def test_a_part_of_a_batch_is_what_it_is_in_the_whole(arrays, request):
    data = dataset(request.getfixturevalue(arrays))
    positions = np.array([4, 2, 0, 5])

    def read(rows=None):
        generator = torch.Generator().manual_seed(8)
        loaded = data.load(positions, train=True, generator=generator, rows=rows)
        return data.finish(loaded, CPU).inputs, generator.get_state()

    whole, state = read()
    for rows in (slice(1, 3), slice(3, 4)):
        part, after = read(rows)
        assert torch.equal(after, state)
        for name, x in part.items():
            assert_close(name, x, whole[name][rows])


def test_loading_in_another_process_and_finishing_here_is_the_same(clip_arrays):
    """As worker processes do: the data set travels there, its batch comes back."""
    data = dataset(clip_arrays)
    positions = np.array([4, 2])
    here = data.load(positions, train=True, generator=torch.Generator().manual_seed(5))
    there = pickle.loads(pickle.dumps(data))
    back = pickle.loads(
        pickle.dumps(there.load(positions, train=True, generator=torch.Generator().manual_seed(5)))
    )
    a, b = data.finish(here, CPU), data.finish(back, CPU)
    for name in ("video", "audio"):
        assert torch.equal(a.inputs[name], b.inputs[name])


@pytest.mark.parametrize("arrays", ["clip_arrays", "recipe_arrays"])
def test_a_batch_in_parts_is_the_batch(arrays, request):
    data = dataset(request.getfixturevalue(arrays))
    positions = np.array([4, 2, 0, 1, 2])

    def part(rows):
        generator = torch.Generator().manual_seed(5)
        batch = data.load(positions, train=True, generator=generator, rows=rows)
        return data.finish(batch, CPU).inputs, generator.get_state()

    whole, state = part(None)
    for rows in (slice(0, 2), slice(2, 5), slice(5, 5)):
        inputs, after = part(rows)
        assert torch.equal(after, state)
        for name, x in inputs.items():
            assert_close(name, x, whole[name][rows])


def test_only_what_is_copied_is_read_from_disk(tmp_path, clip_arrays):
    file = tmp_path / "video.npy"
    np.save(file, clip_arrays["video"])
    mapped = {**clip_arrays, "video": np.load(file, mmap_mode="r")}
    a = dataset(mapped).batch(np.arange(3), train=False, generator=None)
    b = dataset(clip_arrays).batch(np.arange(3), train=False, generator=None)
    assert torch.equal(a.inputs["video"], b.inputs["video"])


def test_unreadable_samples_are_absent_zeros_counted_and_said_once(clip_arrays):
    data = dataset(clip_arrays, broken=[(2, "video"), (4, "audio"), (4, "video")])
    with pytest.warns(RlmbaWarning, match=r"1 of 8 samples .*'id2' \(video\)") as caught:
        batch = data.batch(np.array([1, 2, 2]), train=False, generator=None)
    assert "rlmba data check media" in str(caught[0].message)
    assert batch.present.tolist() == [[True, True], [False, True], [False, True]]
    assert set(batch.inputs) == {"video", "audio"}
    gray = (torch.tensor([0.0]) - torch.tensor([0.43216, 0.394666, 0.37645])) / torch.tensor(
        [0.22803, 0.22145, 0.216989]
    )
    torch.testing.assert_close(batch.inputs["video"][1, :, 0, 0, 0], gray)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generator = torch.Generator().manual_seed(0)
        batch = data.batch(np.array([4, 0]), train=True, generator=generator)
    assert batch.present.tolist() == [[False, False], [True, True]]
    low, high = batch.inputs["audio"].flatten(1).aminmax(dim=1)
    assert (low < high).tolist() == [False, True]
    assert data.problems == {2: {"video"}, 4: {"audio", "video"}}
    assert data.summary().endswith(
        "2 of 8 samples could not be read: 'id2' (video), 'id4' (audio, video)"
    )
    assert "could be read" in dataset(clip_arrays).summary()


class Tracing(MediaDataset):
    """Says in each batch which process transformed it."""

    def transform(self, batch, device):
        made = super().transform(batch, device)
        return made._replace(inputs={**made.inputs, "process": torch.tensor(os.getpid())})


@pytest.mark.parametrize("arrays", ["clip_arrays", "recipe_arrays"])
@pytest.mark.parametrize("free", [None, 0])
def test_batches_are_the_same_whoever_transforms_them(arrays, free, request, monkeypatch):
    """Bit for bit: in workers with one thread each, or here with several, if shared memory is short."""
    if free is not None:
        usage = namedtuple("usage", "total used free")(2**26, 2**26, free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    data = dataset(request.getfixturevalue(arrays), kind=Tracing)
    requests = [
        BatchRequest(np.array([1, 2, 0, 5, 4]), rows, train, 3, number)
        for number, (train, rows) in enumerate([(True, None), (False, None), (True, slice(2, 5))])
    ]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        here = list(Loader(data).stream(requests))
    finally:
        torch.set_num_threads(before)
    with Loader(data, workers=2) as loader:
        there = list(loader.stream(requests))
    for a, b in zip(here, there, strict=True):
        assert int(a.inputs["process"]) == os.getpid()
        assert (int(b.inputs["process"]) == os.getpid()) == (free == 0)
        for m in data.modalities:
            assert torch.equal(a.inputs[m.name], b.inputs[m.name])


def test_problems_are_counted_here_if_a_worker_transforms(clip_arrays):
    data = dataset(clip_arrays, broken=[(2, "video")])
    with Loader(data, workers=1) as loader, pytest.warns(RlmbaWarning, match="id2"):
        (batch,) = loader.batches([np.array([1, 2])])
    assert data.problems == {2: {"video"}}
    assert set(batch.inputs) == {"video", "audio"}
    assert batch.present.tolist() == [[True, True], [False, True]]


def test_problems_of_a_worker_are_counted_where_batches_are_finished(clip_arrays):
    data = dataset(clip_arrays, broken=[(2, "video")])
    worker = pickle.loads(pickle.dumps(data))
    batch = worker.load(np.array([2]), train=False, generator=None)
    with pytest.warns(RlmbaWarning, match="id2"):
        data.finish(pickle.loads(pickle.dumps(batch)), CPU)
    assert data.problems == {2: {"video"}}


def test_what_is_known_to_be_absent_is_no_problem(clip_arrays):
    present = np.ones((N, 2), np.bool_)
    present[3, 0] = False
    data = dataset(clip_arrays, broken=[(3, "video"), (5, "audio")], present=present)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = data.batch(np.array([3, 1]), train=False, generator=None)
    assert batch.present.tolist() == [[False, True], [True, True]]
    assert not data.problems
    data.reader.broken.add((3, "audio"))
    with pytest.warns(RlmbaWarning, match=r"'id3' \(audio\)"):
        batch = data.batch(np.array([5, 3]), train=False, generator=None)
    assert batch.present.tolist() == [[True, False], [False, False]]
    assert np.array_equal(data.present, present)


def test_augmentation_needs_a_generator(clip_arrays):
    with pytest.raises(UsageError, match=r"expected a torch.Generator with train=True"):
        dataset(clip_arrays).load(np.array([0]), train=True, generator=None)


def test_empty_batch(clip_arrays):
    batch = dataset(clip_arrays).batch(np.array([], np.int64), train=False, generator=None)
    assert batch.inputs["audio"].shape == (0, 1, 257, 504)


def test_fingerprint_tells_data_apart(clip_arrays):
    first = dataset(clip_arrays).fingerprint()
    assert first == dataset(clip_arrays).fingerprint()
    changed = [
        {"ids": [f"x{i}" for i in range(N)]},
        {"labels": (np.arange(N) + 1) % 3},
        {"classes": ["a", "b", "d"]},
        {"test": np.arange(N) >= 5},
        {"present": np.arange(2 * N).reshape(N, 2) != 4},
        {"recipe": Recipe(tokens=99)},
        {"content": "1"},
        {"content": lambda: "1"},
        {"modalities": ["audio", "video"]},
    ]
    found = [dataset(clip_arrays, **c).fingerprint() for c in changed]
    assert found[6] == found[7]
    assert len({first, *found}) == len(changed)

    calls = []
    lazy = dataset(clip_arrays, content=lambda: str(calls.append(1)))
    assert not calls
    assert lazy.fingerprint() == lazy.fingerprint()
    assert calls == [1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": ["x"] * N}, "expected distinct ids"),
        ({"labels": np.full(N, 3)}, "expected 0 to 2"),
        ({"test": np.ones(N, np.bool_)}, "expected training samples"),
        ({"present": np.zeros((N, 2), np.bool_)}, "at least one modality for each sample"),
        ({"modalities": ["video", "mm"]}, "is the name of the fused head"),
    ],
)
def test_bad_data_are_refused(clip_arrays, changes, message):
    with pytest.raises(DataError, match=message):
        dataset(clip_arrays, **changes)
