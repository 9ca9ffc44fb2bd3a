from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rlmba.annotators import LabelBatch, Question, create, names
from rlmba.errors import UsageError

OWN = """
class Constant:
    def __init__(self, folder, *, answer, suffix=""):
        self.answer = answer + suffix

    def request(self, batch):
        return f"round_{batch.round:03d}"

    def collect(self, ticket):
        return {ticket: self.answer}
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "my_annotators.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_annotators:Constant"
    sys.modules.pop("my_annotators", None)


def test_ones_own_class_by_name(own, tmp_path):
    made = create(own, tmp_path, {"answer": "cat"})
    ticket = made.request(LabelBatch(3, ("cat",), False, {}, (Question("a", 1),)))
    assert made.collect(ticket) == {"round_003": "cat"}


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
        ("spreadsheet", {}, r"expected one of \['browser', 'file', 'labelstudio', 'oracle'\]"),
    ],
)
def test_what_cannot_be_made_is_said(own, tmp_path, name, options, said):
    with pytest.raises(UsageError, match=said):
        create(name, Path(tmp_path), options)


def test_names():
    assert names() == ("browser", "file", "labelstudio", "oracle")
