"""Pickled dicts of arrays are read as data: equal to what was pickled, refused otherwise, never run."""

from __future__ import annotations

import contextlib
import os
import pickle

import numpy as np
import pytest

from rlmba.errors import DataError
from rlmba.reading.pickled_arrays import read_pickled_arrays

CONTENT = {
    "conv1": {"weights": np.arange(12, dtype=np.float32).reshape(3, 4), "mean": np.float32([1])},
    "conv2": {"weights": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))},
}


def header():
    text = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def write(path, content, protocol=3):
    whole = np.empty((), object)
    whole[()] = content
    path.write_bytes(header() + pickle.dumps(whole, protocol))
    return path


def test_equal_to_what_was_pickled(tmp_path):
    found = read_pickled_arrays(write(tmp_path / "a.npy", CONTENT))
    assert found.keys() == CONTENT.keys()
    for layer, arrays in CONTENT.items():
        assert found[layer].keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[layer][name], array)


class Code:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_code_does_not_run(tmp_path):
    made = tmp_path / "made"
    path = write(tmp_path / "a.npy", {"conv1": Code(str(made))})
    with pytest.raises(DataError, match="the instruction GLOBAL"):
        read_pickled_arrays(path)
    assert not made.exists()


@pytest.mark.parametrize("content", [["a list"], {"a": np.arange(3)}, {"a": {1, 2}}])
def test_other_content_is_refused(tmp_path, content):
    with pytest.raises(DataError, match=r"a\.npy: expected"):
        read_pickled_arrays(write(tmp_path / "a.npy", content))


def test_damage_is_an_error_that_names_the_file(tmp_path):
    path = write(tmp_path / "a.npy", CONTENT)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match=r"no\.npy"):
        read_pickled_arrays(tmp_path / "no.npy")
    for _ in range(300):
        damaged = bytearray(whole[: rng.integers(len(whole))] if rng.random() < 0.5 else whole)
        for place in rng.integers(len(damaged), size=2) if damaged else ():
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        # Changed numbers are read as they are.
        with contextlib.suppress(DataError):
            read_pickled_arrays(path)
    path.write_bytes(whole[:-40])
    with pytest.raises(DataError, match=r"a\.npy: expected"):
        read_pickled_arrays(path)
