"""The meaning of a cell: one rule for ids, labels and missing values."""

from __future__ import annotations

import uuid
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlmba.cells import NameIndex, all_numbers, as_text, class_names, id_names, is_missing, whole


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (3, "3"),
        (3.0, "3"),
        (-0.0, "0"),
        (1e3, "1000"),
        (0.5, "0.5"),
        ("3.0", "3.0"),
        ("007", "007"),
        ("\xa0 x \u2003", "x"),
        ("nan", "nan"),
        ("NA", "NA"),
        ("None", "None"),
        (True, "true"),
        (np.bool_(False), "false"),
        (2**53 + 1, "9007199254740993"),
        (2**64 - 1, "18446744073709551615"),
        (np.uint64(2**64 - 1), "18446744073709551615"),
        (np.int8(-3), "-3"),
        (np.float32(0.1), "0.1"),
        (np.float64(3), "3"),
        (np.str_(" x"), "x"),
        (Decimal("7.00"), "7"),
        (Decimal("7.50"), "7.5"),
        (Decimal(2**64), "18446744073709551616"),
        (b" \xc3\xa9t\xc3\xa9", "été"),
        (date(2020, 1, 2), "2020-01-02"),
        (datetime(2020, 1, 2, 3), "2020-01-02T03:00:00"),
        (datetime(2020, 1, 2, 3, 4, 5, 500_000, timezone.utc), "2020-01-02T03:04:05.5+00:00"),
        (np.datetime64("2020-01-02T03:04:05.500", "ns"), "2020-01-02T03:04:05.5"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_cells_with_something_in_them(cell, text):
    assert not is_missing(cell)
    assert as_text(cell) == text


def test_missing_cells():
    pandas = pytest.importorskip("pandas")
    missing = [
        None, float("nan"), np.float32("nan"), Decimal("NaN"), np.datetime64("NaT"), "", " ", "\xa0\t",
        b" ", pandas.NA, pandas.NaT, np.ma.masked,
    ]  # fmt: skip
    for cell in missing:
        assert is_missing(cell)
        assert as_text(cell) is None


@pytest.mark.parametrize(
    ("cell", "match"),
    [
        ([1], "text or a number"),
        ({"a": 1}, "text or a number"),
        (timedelta(1), "text or a number"),
        (float("inf"), "a finite number"),
        (2.0**53, "too large to keep all digits"),
        (1e22, "too large to keep all digits"),
        (b"\xff", "UTF-8"),
    ],
)
def test_cells_that_mean_nothing(cell, match):
    with pytest.raises(ValueError, match=match):
        as_text(cell)


@given(st.integers(-(2**53) + 1, 2**53 - 1))
def test_an_integer_is_the_same_whatever_holds_it(n):
    known = NameIndex([str(n)])
    cells = [
        n,
        float(n),
        np.int64(n),
        Decimal(n),
        str(n),
        f"{n}.0",
        f"{n}.00",
        f"{n},0",
        f" {n}\xa0",
    ]
    assert {known.find(as_text(cell) or "") for cell in cells} == {str(n)}


@pytest.mark.parametrize(
    ("names", "cell", "name"),
    [
        (["3"], "3.0", "3"),
        (["3.0"], "3", "3.0"),
        (["3", "3.0"], "3.0", "3.0"),
        (["3", "3.0"], "3", "3"),
        (["3", "3.0"], "3.00", None),
        (["0"], "-0.0", "0"),
        (["7", "007"], "007", "007"),
        (["007"], "7", None),
        (["7"], "007", None),
        (["0.5"], "0,5", "0.5"),
        (["-1,5", "2"], "-1.5", "-1,5"),
        (["0.5", "0,5"], "0,5", "0,5"),
        (["1.1"], "1,10", None),
        (["1000"], "1e3", None),
        (["3000"], "3,000", None),
        (["v3"], "v3.0", None),
        (["é"], "e\u0301", "é"),
        (["e\u0301", "é"], "é", "é"),
        (["a b"], "a\xa0 b", "a b"),
        (["ab"], "\ufeffab", "ab"),
        (["a b", "a  b"], "a   b", None),
        (["Cat"], "cat", None),
    ],
)
def test_known_names(names, cell, name):
    assert NameIndex(names).find(cell) == name


def test_known_classes_are_found_in_any_case():
    classes = NameIndex(["cat", "Dog", "DOG", "true", "1"], case=False)
    assert classes.find("CAT") == "cat"
    assert classes.find("dog") is None
    assert classes.alike("dog") == ["Dog", "DOG"]
    assert classes.find(as_text(True) or "") == classes.find("True") == "true"
    assert classes.find("1.0") == "1"
    classes.add("Emu")
    assert classes.find("emu") == "Emu"


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["0.0", "1.0", None, "2"], ["0", "1", None, "2"]),
        (["3.0", "2.5"], ["3", "2.5"]),
        (["3.0", "3", "x"], ["3.0", "3", "x"]),
        (["1.0", "1.10"], ["1.0", "1.10"]),
        (["007", "7.0"], ["007", "7.0"]),
        (["é", "e\u0301", "a b", "a\xa0b"], ["é", "é", "a b", "a b"]),
        (["nan", "NA", None], ["nan", "NA", None]),
        ([], []),
    ],
)
def test_classes_that_nobody_has_listed(texts, names):
    assert class_names(texts) == names


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["7.0", "8", "-0.0"], ["7", "8", "0"]),
        (["7.0", "7", "8"], ["7.0", "7", "8"]),
        (["7.0", "7.0"], ["7", "7"]),
        (["1.0", "1.10"], ["1.0", "1.10"]),
        (["007", "8.0"], ["007", "8.0"]),
    ],
)
def test_ids_of_a_table_of_samples(texts, names):
    assert id_names(texts) == names


def test_numbers_as_programs_write_them():
    assert all_numbers(["3", "-1.5", "3.0", "0", "3,0", "0,25"])
    for text in ("007", "1.10", "1e3", "x", "", "3 "):
        assert not all_numbers([text])
    assert [whole(t) for t in ("3.000", "-3,00", "3,000", "3.")] == ["3", "-3", "3,000", "3."]
