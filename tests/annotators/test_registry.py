from __future__ import annotations

import contextlib
import inspect
import sys
from pathlib import Path

import pytest

from rlmba.annotators import LabelBatch, Question, create, names
from rlmba.errors import PluginError, RlmbaError, UsageError

OWN = """
class Constant:
    def __init__(self, folder, *, answer, suffix=""):
        self.answer = answer + suffix

    def request(self, batch):
        return f"round_{batch.round:03d}"

    def collect(self, ticket):
        return {ticket: self.answer}


class Telling(type):
    def __getattr__(cls, name):
        raise SystemExit(f"called for {name}")


class Lacking(metaclass=Telling):
    def request(self, batch):
        return "x"


class Failing(Constant):
    def __init__(self, folder):
        raise OSError("no camera")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "my_annotators.py").write_text(OWN)
    (tmp_path / "my_raising.py").write_text("{}['x']")
    (tmp_path / "my_leaving.py").write_text("raise SystemExit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_annotators:Constant"
    sys.modules.pop("my_annotators", None)


def test_ones_own_class_by_name(own, tmp_path):
    made = create(own, tmp_path, {"answer": "cat"})
    ticket = made.request(LabelBatch(3, ("cat",), False, {}, (Question("a", 1),)))
    assert made.collect(ticket) == {"round_003": "cat"}


@pytest.mark.parametrize("answer", ["a\0b", "a\ud800"])
def test_labels_that_no_file_can_hold_are_the_fault_of_the_class(own, tmp_path, answer):
    made = create(own, tmp_path, {"answer": answer})
    with pytest.raises(PluginError, match="expected collect to return ids as text and labels as"):
        made.collect("round_003")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("my_annotators:Constant", {}, r"needs the option 'answer'.*--annotator-option answer="),
        (
            "my_annotators:Constant",
            {"answr": "x"},
            r"no option 'answr': expected one of \['answer'",
        ),
        ("my_annotators:Other", {}, "expected a class in a module.*Other"),
        ("no_such_module_here:Other", {}, "no_such_module_here"),
        (":Other", {}, "expected a class"),
        (
            "os:system",
            {},
            "a class with the methods request and collect, found an object of the type builtin_function",
        ),
        ("os:environ", {}, "of the type _Environ"),
        ("json:JSONDecoder", {}, "found one without request"),
        ("my_annotators:Lacking", {}, "found one without collect"),
        ("my_raising:Own", {}, "importing the module my_raising raised KeyError: 'x'"),
        ("my_leaving:Own", {}, "importing the module my_leaving raised SystemExit: 0"),
        ("../my_annotators:Constant", {}, "expected a class, written as module:Class"),
        ("my_annotators:Constant()", {}, "expected a class, written as module:Class"),
        ("spreadsheet", {}, "expected one of browser, file, labelstudio, oracle"),
    ],
)
def test_what_cannot_be_made_is_said(own, tmp_path, name, options, said):
    with pytest.raises(UsageError, match=said):
        create(name, Path(tmp_path), options)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize(
    "value", [["x"], {"a": 1}, 5, -1, True, 1.5, "", "a\0.csv", "\ud800.csv", float("nan")]
)
def test_options_of_any_type_are_taken_or_refused(tmp_path, name, value):
    """What a folder's file may hold."""
    for option in options_of(name):
        needed = {"labelstudio": {"url": ""}, "oracle": {"truth": "truth.csv"}}.get(name, {})
        with contextlib.suppress(RlmbaError):
            create(name, tmp_path, needed | {option: value})


def options_of(name):
    found = create(name, Path("p"), {"truth": "t.csv"} if name == "oracle" else {})
    return [p.name for p in inspect.signature(type(found)).parameters.values()][1:]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("labelstudio", {"url": ["x"]}, r"option url: expected a valid string, found \['x'\]"),
        ("labelstudio", {"timeout": "soon"}, "option timeout: expected a valid number"),
        ("file", {"path": "a\0.csv"}, "option path: expected text without NUL bytes"),
        ("file", {"path": ["x"]}, "option path: "),
    ],
)
def test_an_option_of_another_type_is_named(tmp_path, name, options, said):
    with pytest.raises(UsageError, match=said):
        create(name, tmp_path, options)


def test_making_ones_own_fails(own, tmp_path):
    with pytest.raises(
        PluginError, match=r"Failing', from the module 'my_annotators', raised OSErr"
    ):
        create("my_annotators:Failing", tmp_path)


def test_names():
    assert names() == ("browser", "file", "labelstudio", "oracle")
