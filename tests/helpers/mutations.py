"""Damaged files: real files with changed bytes, JSON values or types."""

from __future__ import annotations

import copy
import json
import warnings

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from rlmba.errors import RlmbaError

DEEP = "deep nesting"
BOUNDED = settings(max_examples=50, suppress_health_check=list(HealthCheck), database=None)
_VALUES = (
    *(None, True, 0, -1, 2**63, 2**64, 10**400, 0.5, 1e308, float("nan"), float("inf")),
    *("", "7", "\0", "\ud800", "../../x", "a" * 300),
    *([], [None], [[]], {}, {"": None}, {"a": {"b": []}}, DEEP),
)


def mutated_bytes(whole: bytes) -> st.SearchStrategy[bytes]:
    """The content cut off, with bytes replaced, inserted or removed, or something else."""
    places = st.integers(0, max(0, len(whole) - 1))
    some = st.binary(max_size=16) | st.sampled_from(
        [b"\0", b"\xff\xfe", b"\r\n", b"{", b'"', b"9" * 9]
    )
    return st.one_of(
        st.sampled_from([b"", b"\0", b"\n", b"\xff\xfe", b"PK\x05\x06" + bytes(18), whole * 2]),
        st.builds(lambda at: whole[:at], places),
        st.builds(lambda at, new: whole[:at] + new + whole[at + len(new) :], places, some),
        st.builds(lambda at, new: whole[:at] + new + whole[at:], places, some),
        st.builds(lambda at, count: whole[:at] + whole[at + count :], places, st.integers(1, 40)),
    )


@st.composite
def mutated_json(draw, text: str):
    """JSON with one value replaced, dropped, given twice or added; the text's bytes changed; else."""
    if draw(st.integers(0, 3)) == 0:
        return draw(mutated_bytes(text.encode()))
    root = [json.loads(text)]
    place, key = draw(st.sampled_from(list(_places(root))))
    change = draw(st.sampled_from(["replace", "replace", "replace", "drop", "twice", "add"]))
    value = draw(st.sampled_from(_VALUES))
    place = _found(copied := copy.deepcopy(root), place)
    if change == "drop" and place is not copied:
        del place[key]
    elif change == "add" and isinstance(place, dict):
        place[draw(st.text(max_size=3))] = value
    elif change == "twice" and isinstance(place, dict):
        place[f"{key}\0twice"] = value
    else:
        place[key] = value
    new = json.dumps(copied[0])
    return new.replace("\\u0000twice", "").replace(f'"{DEEP}"', "[" * 5000 + "]" * 5000).encode()


def _places(value, path=()):
    """Each container's path from the root, and each key in it."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield path, key
            yield from _places(inner, (*path, key))


def _found(root, path):
    for key in path:
        root = root[key]
    return root


def read_or_refused(path, content, read):
    """Assert that a file with this content is read, or refused by an error of ours that names it."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read()
    except RlmbaError as error:
        named = path.name in str(error) or str(path.parent) in str(error)
        assert named, error  # noqa: PT017 - what is read need not be refused
    finally:
        path.write_bytes(before)
