"""Options from a file: an option of a wrong type is named in a clear error."""

from __future__ import annotations

import contextlib
import inspect
import re

import numpy as np
import pytest

from rlmba import data
from rlmba.data import Modality, load_dataset
from rlmba.errors import RlmbaError, UsageError
from rlmba.models import build_encoder
from rlmba.reading.options import check_types, explained, takes_options_of
from rlmba.strategies import create

VALUES = [True, 5, -1, 1.5, float("nan"), "", "x", "a\0b", ["x"], [1], {}, {"a": 1}, [[]]]


def sample(path: str | None = None, *, n: int = 1, names: list[str] | None = None) -> int:
    return len(names or []) + n + len(path or "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": "1"}, "thing, option n: expected a valid integer, found '1'"),
        ({"n": 10**30}, "option n: expected an integer of 64 bits, found one of 100"),
        ({"names": 5}, "option names: expected a valid array, found 5"),
        ({"names": ["a", None]}, r"option names: 1: expected a valid string, found None"),
        ({"path": "a\0b"}, "option path: expected text without NUL bytes"),
        ({"path": "\ud800"}, "option path: "),
    ],
)
def test_the_option_is_named(options, said):
    with pytest.raises(UsageError, match=said):
        check_types(sample, options, "thing")


def test_what_fits_is_taken_and_other_errors_stay():
    check_types(sample, {"n": np.int64(3), "names": ("a", "b"), "path": None}, "thing")
    with pytest.raises(ZeroDivisionError), explained(sample, {"n": 1}, "thing"):
        raise ZeroDivisionError
    with pytest.raises(UsageError, match="option n"), explained(sample, {"n": "x"}, "thing"):
        sample(n="x")


@pytest.mark.parametrize("value", VALUES, ids=[repr(v)[:12] for v in VALUES])
def test_data_sets_take_or_refuse_it(tmp_path, value):
    file = tmp_path / "m.csv"
    file.write_text("id,text,label\n" + "".join(f"s{i},w{i},{'ab'[i % 2]}\n" for i in range(6)))
    np.savez(tmp_path / "f.npz", a=np.ones((4, 2), "f4"), y=np.arange(4) % 2, split=[0, 0, 1, 1])
    for name in ("features", "root", "classes", "columns"):
        with contextlib.suppress(RlmbaError):
            load_dataset("manifest", data=file, options={name: value})
    for name in ("modalities", "split", "kinds"):
        with contextlib.suppress(RlmbaError):
            load_dataset("features", data=tmp_path / "f.npz", options={name: value})


def test_encoders_and_strategies_name_it():
    with pytest.raises(UsageError, match="option window_ms: expected a valid number"):
        build_encoder("spectrogram-cnn", Modality("a", "waveform", (1200,)), {"window_ms": "x"})
    with pytest.raises(UsageError, match="option hidden: expected an integer of 64 bits"):
        create("rlmba", hidden=10**30)


def test_a_function_names_the_options_that_it_passes_on():
    def shared(*, size: int = 1, name: str | None = None):
        return size, name

    @takes_options_of(shared, without=("name",))
    def taker(path: str, *, own: bool = True, **options):
        return path, own, shared(**options)

    assert str(inspect.signature(taker)) == "(path: 'str', *, own: 'bool' = True, size: int = 1)"
    assert taker("a", size=3) == ("a", True, (3, None))
    with pytest.raises(UsageError, match="option size: expected a valid integer"):
        check_types(taker, {"size": "x", "own": True}, "thing")
    with pytest.raises(TypeError, match="unexpected keyword argument 'sizes'"):
        taker("a", sizes=3)


@pytest.mark.parametrize("loader", [data.load_manifest, data.load_food101])
def test_every_option_of_a_loader_is_documented(loader):
    documented = re.findall(r"^(\w+) : ", inspect.getdoc(loader), re.MULTILINE)
    assert sorted(documented) == sorted(inspect.signature(loader).parameters)


def test_options_of_similar_loaders():
    def options(loader):
        return set(inspect.signature(loader).parameters) - {"path", "root"}

    own = {"name", "subset", "media"}
    assert options(data.load_huggingface) - own == options(data.load_manifest)
    assert options(data.load_vggsound) == options(data.load_food101) - {"tokenizer"}
    assert options(data.load_kineticssound) == options(data.load_vggsound)
