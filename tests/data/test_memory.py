from __future__ import annotations

import numpy as np
import pytest
import torch

from rlmba.data import InMemoryDataset, load_dataset, names, register
from rlmba.errors import DataError, UsageError

N = 12


def build(**changes):
    rng = np.random.default_rng(0)
    given = {
        "arrays": {
            "numbers": rng.normal(5, 3, (N, 4)).astype(np.float16),
            "picture": rng.integers(0, 256, (N, 6, 5, 3), dtype=np.uint8),
            "sound": rng.integers(-32768, 32768, (N, 40), dtype=np.int16),
            "sensor": rng.normal(-2, 9, (N, 7, 3)),
            "words": rng.integers(0, 9, (N, 5)),
            "mel": rng.normal(size=(N, 4, 6)).astype(np.float32),
        },
        "kinds": {
            "numbers": "features",
            "picture": "image",
            "sound": "waveform",
            "sensor": "sequence",
            "words": "tokens",
            "mel": "spectrogram",
        },
        "labels": np.arange(N) % 3,
        "classes": ["a", "b", "c"],
        "ids": [f"s{i}" for i in range(N)],
        "split": np.arange(N) >= 9,
    }
    return InMemoryDataset("toy", **{**given, **changes})


def everything(dataset, positions, **options):
    return dataset.batch(np.asarray(positions), **{"train": False, "generator": None, **options})


def test_batches_are_converted_and_standardized_by_training_samples():
    dataset = build()
    batch = everything(dataset, dataset.train_positions)
    shapes = {m.name: m.shape for m in dataset.modalities}
    assert shapes == {
        "numbers": (4,),
        "picture": (3, 6, 5),
        "sound": (40,),
        "sensor": (7, 3),
        "words": (5,),
        "mel": (1, 4, 6),
    }
    for m in dataset.modalities:
        assert batch.inputs[m.name].shape == (9, *m.shape)
        assert str(batch.inputs[m.name].dtype) == f"torch.{m.dtype}"
    for name, axes in {
        "numbers": (0,),
        "picture": (0, 2, 3),
        "sensor": (0, 1),
        "mel": None,
    }.items():
        x = batch.inputs[name].numpy().astype(np.float64)
        np.testing.assert_allclose(x.mean(axis=axes), 0, atol=1e-5)
        np.testing.assert_allclose(x.std(axis=axes), 1, atol=1e-4)
    assert batch.inputs["sound"].abs().max() <= 1
    assert dataset.modalities[4].vocabulary == 9
    assert batch.present is None


def test_waveform_and_picture_values():
    sound = np.array([[-32768, 0, 16384]] * N, np.int16)
    picture = np.zeros((N, 2, 2, 3), np.uint8)
    picture[::2, 0, 1] = [255, 0, 0]
    dataset = build(
        arrays={"sound": sound, "picture": picture},
        kinds={"sound": "waveform", "picture": "image"},
    )
    batch = everything(dataset, [1, 0])
    assert batch.inputs["sound"][0].tolist() == [-1.0, 0.0, 0.5]
    red = batch.inputs["picture"][1, 0]
    assert red[0, 1] > 1 > red[0, 0]
    assert (red.flatten()[[0, 2, 3]] == red[0, 0]).all()
    assert (batch.inputs["picture"][:, 1:] == 0).all()


def test_constant_feature_is_zero_and_tiny_features_are_kept():
    x = np.column_stack([np.full(N, 7.3), np.arange(N) * 1e-9])
    batch = everything(build(arrays={"x": x}, kinds={"x": "features"}), np.arange(N))
    np.testing.assert_allclose(batch.inputs["x"][:, 0], 0, atol=1e-5)
    assert batch.inputs["x"][:9, 1].std() == pytest.approx(1, rel=0.1)


def test_augmentation_only_in_training_and_only_from_the_generator():
    dataset = build()
    before = {m: a.copy() for m, a in dataset._arrays.items()}
    state = torch.random.get_rng_state()
    positions = np.arange(N)

    def train(seed):
        return everything(
            dataset, positions, train=True, generator=torch.Generator().manual_seed(seed)
        ).inputs

    plain, one, again, other = (
        everything(dataset, positions).inputs,
        train(1),
        train(1),
        train(2),
    )
    for m in ("numbers", "sound", "sensor"):
        assert torch.equal(one[m], again[m])
        assert not torch.equal(one[m], other[m])
        assert not torch.equal(one[m], plain[m])
    assert torch.equal(one["words"], plain["words"])
    assert torch.equal(torch.random.get_rng_state(), state)
    for m, a in dataset._arrays.items():
        np.testing.assert_array_equal(a, before[m])
    with pytest.raises(UsageError, match=r"torch\.Generator"):
        everything(dataset, positions, train=True)


def test_shifts_move_whole_samples_and_bring_in_zeros():
    x = np.tile(np.arange(1, 25, dtype=np.float32), (N, 1))
    dataset = build(arrays={"x": x}, kinds={"x": "waveform"})
    moved = everything(
        dataset, np.arange(N), train=True, generator=torch.Generator().manual_seed(0)
    ).inputs["x"]
    shifts = set()
    for row in moved.numpy():
        offset = int(row[12] - 13)
        shifts.add(offset)
        inside = row[row != 0]
        np.testing.assert_array_equal(np.diff(inside), 1)
        assert (row == 0).sum() == abs(offset)
    assert shifts >= {-2, 2}
    assert max(map(abs, shifts)) == 2


def test_absent_values_are_never_read():
    x = np.ones((N, 2))
    x[3] = np.nan
    x[:3] += np.arange(3)[:, None]
    present = np.ones((N, 2), bool)
    present[3, 0] = False
    dataset = build(
        arrays={"x": x, "y": np.ones((N, 2))},
        kinds={"x": "features", "y": "features"},
        present=present,
    )
    batch = everything(dataset, [3, 1])
    assert batch.present.tolist() == [[False, True], [True, True]]
    assert torch.isfinite(batch.inputs["x"]).all()


def test_fingerprint_sees_every_change():
    base = build().fingerprint()
    assert build().fingerprint() == base
    labels = np.arange(N) % 3
    labels[0] = 2
    split = np.arange(N) >= 8
    arrays = dict(build()._arrays)
    arrays["numbers"] = arrays["numbers"].copy()
    arrays["numbers"][5, 2] += 1
    changed = [
        build(labels=labels),
        build(split=split),
        build(ids=[f"t{i}" for i in range(N)]),
        build(arrays=arrays),
        build(classes=["a", "b", "x"]),
        build(present=np.eye(N, 6, dtype=bool) | (np.arange(6) < 5)),
    ]
    assert len({base, *(d.fingerprint() for d in changed)}) == 7


def replaced(name, value):
    arrays = dict(build()._arrays)
    arrays[name] = value
    return {"arrays": arrays}


def spoiled(value):
    x = np.ones((N, 4))
    x[7, 2] = value
    return replaced("numbers", x)


BAD = {
    "length": (replaced("mel", np.zeros((N - 1, 4, 6))), "'mel': expected 12 rows"),
    "nan": (spoiled(np.nan), "'numbers' of sample 's7': .* got nan at position 2"),
    "inf": (spoiled(-np.inf), "'numbers' of sample 's7': .* got -inf"),
    "object": (replaced("numbers", np.array([None] * N)), "numeric array, got dtype object"),
    "empty": (replaced("numbers", np.zeros((N, 0))), "'numbers': expected values, got empty"),
    "negative token": (replaced("words", -np.ones((N, 5), np.int64)), "tokens are integers >= 0"),
    "label": ({"labels": [*range(3), 3] * 3}, "'s3' has 3"),
    "negative label": ({"labels": np.arange(N) % 3 - 1}, "'s0' has -1"),
    "float labels": ({"labels": np.arange(N) % 3 / 1.0}, "integers 0 to 2, got dtype float64"),
    "fewer labels": ({"labels": np.zeros(5, int)}, "expected 12 labels"),
    "one class": ({"labels": np.zeros(N, int)}, "two classes or more, got 1"),
    "classes": ({"classes": ["a", "b", "a"]}, "distinct names"),
    "half a class": ({"classes": ["a", "b", "\ud800"]}, "half a character"),
    "ids": ({"ids": ["s0", *(f"s{i}" for i in range(N - 1))]}, "'s0' is at positions 0 and 1"),
    "blank id": ({"ids": ["a\nb", *(f"s{i}" for i in range(N - 1))]}, "non-empty line"),
    "split": ({"split": np.arange(N) % 3}, r"got \[2\] as well"),
    "no train": ({"split": np.ones(N, int)}, r"training samples \(0\), got none"),
    "nothing": ({"arrays": {}, "kinds": {}}, "at least one modality"),
    "mm": (
        {"arrays": {"mm": np.ones((N, 2))}, "kinds": {"mm": "features"}},
        "is the name of the fused head",
    ),
    "present": ({"present": np.zeros((N, 6), int)}, "'s0' has none"),
    "present shape": ({"present": np.ones((N, 2), int)}, "12 samples and 6 modalities"),
    "never there": (
        {"present": np.tile([1, 1, 1, 1, 1, 0], (N, 1))},
        "'mel': expected a training sample",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data(case):
    changes, message = BAD[case]
    with pytest.raises(DataError, match=message):
        build(**changes)


def test_kinds_that_do_not_fit():
    with pytest.raises(UsageError, match="kind 'sequence' needs a 3-D array"):
        build(kinds={**dict.fromkeys(build()._arrays, "sequence")})
    with pytest.raises(UsageError, match="expected a kind of"):
        build(kinds=dict.fromkeys(build()._arrays, "smell"))


def test_registry():
    assert {"digits", "features"} <= set(names())
    with pytest.raises(UsageError, match=r"unknown data set 'digit': .*did you mean 'digits'"):
        load_dataset("digit")
    with pytest.raises(UsageError, match="expected data, got none; give it with --data"):
        load_dataset("features")
    with pytest.raises(UsageError, match=r"needs no file, got data 'x\.npz'; drop --data"):
        load_dataset("digits", data="x.npz")
    with pytest.raises(UsageError, match="reads data, got data_root"):
        load_dataset("features", data="x.npz", data_root="y")
    with pytest.raises(UsageError, match=r"no option 'size': expected one of .*'modalities'"):
        load_dataset("features", data="x.npz", options={"size": 3})
    with pytest.raises(UsageError, match="no option 'size': expected none"):
        load_dataset("digits", options={"size": 3})
    with pytest.raises(UsageError, match="registered already"):
        register("digits", build, source="none")


def one_modality(values, **changes):
    return build(arrays={"x": values}, kinds={"x": "features"}, **changes)


def test_a_number_beyond_float32_is_named_where_it_is_read():
    """It is finite in float64, and would be infinite in the batch of some later round."""
    values = np.zeros((N, 3))
    values[7, 2] = 1e39
    with pytest.raises(
        DataError,
        match=r"'x' of sample 's7': expected numbers within float32.* got 1e\+39 at position 2",
    ):
        one_modality(values)
    present = np.ones((N, 1), bool)
    values[7] = np.nan
    values[3, 1] = -np.inf
    with pytest.raises(DataError, match="'s3': expected finite numbers, got -inf at position 1"):
        build(arrays={"x": values, "z": np.zeros((N, 1))}, kinds={"x": "features", "z": "features"},
              present=np.column_stack([np.arange(N) != 7, present[:, 0]]))  # fmt: skip


def test_a_number_that_standardizing_takes_beyond_float32_is_named():
    values = np.random.default_rng(0).normal(size=(N, 3)) * 1e-6
    values[10] = 3e38
    with pytest.raises(
        DataError, match="'s10': expected numbers within float32 after standardization"
    ):
        one_modality(values)


def test_features_below_what_float32_resolves_are_constant():
    values = np.random.default_rng(0).normal(size=(N, 3)) * 1e-60
    batch = everything(one_modality(values), range(N))
    assert torch.equal(batch.inputs["x"], torch.zeros(N, 3))
