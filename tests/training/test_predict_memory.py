from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from rlmba.config import ModelConfig
from rlmba.data import Batch, load_digits
from rlmba.errors import StorageError, UsageError
from rlmba.machine import available_memory
from rlmba.models import build_classifier
from rlmba.strategies import create
from rlmba.training import Loader, predict
from rlmba.training.arrays import empty_arrays
from rlmba.types import QueryContext
from tests.helpers.float64 import in_float64

SMALL = ModelConfig(width=16, encoders={"image": {"channels": [4, 8]}, "audio": {"channels": [4]}})


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.fixture(scope="module")
def model(digits):
    return in_float64(build_classifier(digits.modalities, 10, SMALL, "uniform", seed=0))


def arrays(outputs):
    return [
        *outputs.features.values(),
        *outputs.logits.values(),
        outputs.fused_features,
        outputs.fused_logits,
    ]


def test_outputs_beyond_the_bound_lie_in_files_without_names(digits, model, tmp_path):
    positions = np.arange(100)
    size = 4 * 100 * (3 * 16 + 3 * 10)
    options = {"batch_size": 32, "spill_folder": tmp_path}
    near = predict(model, Loader(digits), positions, memory=size, **options)
    far = predict(model, Loader(digits), positions, memory=size - 1, **options)
    assert not any(isinstance(a, np.memmap) for a in arrays(near))
    assert all(isinstance(a, np.memmap) for a in arrays(far))
    assert list(tmp_path.iterdir()) == []
    for a, b in zip(arrays(near), arrays(far), strict=True):
        np.testing.assert_array_equal(a, b)
    context = QueryContext(rng=np.random.default_rng(0))
    picks = [create("entropy").query(o, context, 7).positions.tolist() for o in (near, far)]
    assert picks[0] == picks[1]


def test_no_room_is_an_error_before_anything_is_computed(tmp_path):
    with pytest.raises(StorageError, match=r"could not map a file of .* larger disk as training\."):
        empty_arrays({"huge": (1 << 45, 1 << 12)}, memory=0, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match=r"training\.spill_folder: expected a folder"):
        empty_arrays({"a": (4, 4)}, memory=0, folder=tmp_path / "none")
    assert empty_arrays({"a": (0, 4)}, memory=-1, folder=tmp_path)["a"].shape == (0, 4)


def test_available_memory_is_that_of_the_machine_or_less():
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert physical // 1000 < available_memory() <= physical


@pytest.mark.parametrize("keep", [False, True])
def test_what_turns_out_broken_while_reading_is_absent(digits, model, keep):
    class Broken(type(digits)):
        def __init__(self):
            vars(self).update(vars(digits))

        def load(self, positions, **options):
            batch = super().load(positions, **options)
            if 5 not in positions:
                return batch
            present = torch.ones(len(positions), 2, dtype=torch.bool)
            present[positions == 5, 1] = False
            return Batch(batch.inputs, present)

    positions = np.arange(9)
    whole = predict(model, Loader(digits), positions, batch_size=4)
    found = predict(model, Loader(Broken()), positions, batch_size=4, keep_on_device=keep).host()
    assert whole.present is None
    expected = np.ones((9, 2), bool)
    expected[5, 1] = False
    np.testing.assert_array_equal(found.present, expected)
    others = positions[positions != 5]
    np.testing.assert_allclose(
        found.fused_logits[others], whole.fused_logits[others], rtol=1e-6, atol=1e-9
    )
    assert np.abs(found.fused_features[5] - whole.fused_features[5]).max() > 1e-3
    fine = predict(model, Loader(Broken()), others, batch_size=4)
    assert fine.present is None
    assert replace(found, present=None).take(others).ids.tolist() == fine.ids.tolist()
