"""A class called ``?`` and the answer "cannot tell" are never confused, and no class is needed to ask."""

from __future__ import annotations

import json

import pytest

from rlmba.annotators import LabelBatch, Question, create, names, read_labels
from rlmba.annotators.browser.answer_log import AnswerEvent
from rlmba.annotators.browser.page_state import PageState
from rlmba.errors import DataError, UsageError


def batch(*classes, open_=False):
    questions = tuple(Question(f"s{i}", i + 1) for i in range(3))
    return LabelBatch(0, classes, open_, {}, questions)


def table(path, **labels):
    path.write_text("id,label\n" + "".join(f"{i},{label}\n" for i, label in labels.items()))
    return path


@pytest.mark.parametrize(("name", "options"), [("file", {}), ("oracle", {"truth": "t.csv"})])
def test_a_table_cannot_hold_labels_of_such_a_class(tmp_path, name, options):
    annotator = create(name, tmp_path, options)
    with pytest.raises(DataError, match=r"'\?' is the name of a class.*rename the class"):
        annotator.request(batch("?", "!"))
    assert list(tmp_path.iterdir()) == []
    annotator.request(batch("??", "!"))


def test_a_cell_that_could_mean_either_is_refused(tmp_path):
    path = table(tmp_path / "l.csv", a="!", b="?")
    with pytest.raises(DataError, match=r"line 3: '\?' is the name of a class.*rename the class"):
        read_labels(path, ids=["a", "b"], classes=["?", "!"], open=True)
    assert read_labels(path, ids=["a", "b"], classes=["!"], open=True) == {"a": "!", "b": None}


@pytest.fixture
def page(tmp_path):
    annotator = create("browser", tmp_path)

    def shown(asked):
        ticket = annotator.request(asked)
        state = PageState(tmp_path)
        return annotator, state, state.batch(ticket)

    return shown


def test_the_page_keeps_them_apart(page):
    annotator, state, shown = page(batch("?", "!"))
    state.answer(shown, AnswerEvent("s0", "?"), 0)
    state.answer(shown, AnswerEvent("s1", None), 0)
    assert annotator.collect(shown.ticket) == {"s0": "?", "s1": None}


def test_it_does_not_become_a_class_on_the_page(page):
    annotator, state, shown = page(batch("!", open_=True))
    with pytest.raises(UsageError, match=r"cannot be called '\?'; if you cannot tell"):
        state.answer(shown, AnswerEvent("s0", " ? "), 0)
    annotator.log(shown.ticket).append(AnswerEvent("s0", "?"), lambda _: True)
    with pytest.raises(DataError, match=r"line 1: label '\?' cannot be the name of a new class"):
        annotator.collect(shown.ticket)


def exported(folder, *results):
    tasks = [
        {"id": i, "data": {"sample_id": f"s{i}", "round": 0}, "annotations": [{"result": [result]}]}
        for i, result in enumerate(results)
    ]
    (folder / "labelstudio-export.json").write_text(json.dumps(tasks))


def chosen(name):
    return {"from_name": "label", "value": {"choices": [name]}}


def test_label_studio_keeps_them_apart(tmp_path):
    annotator = create("labelstudio", tmp_path, {"url": ""})
    ticket = annotator.request(batch("?", "!"))
    exported(tmp_path, chosen("?"), chosen("rlmba:cannot-tell"), chosen("!"))
    assert annotator.collect(ticket) == {"s0": "?", "s1": None, "s2": "!"}


def test_it_does_not_become_a_class_in_label_studio(tmp_path):
    annotator = create("labelstudio", tmp_path, {"url": ""})
    ticket = annotator.request(batch("!", open_=True))
    exported(tmp_path, {"from_name": "new_class", "value": {"text": ["?"]}})
    with pytest.raises(DataError, match=r"task 0 .*label '\?' cannot be the name of a new class"):
        annotator.collect(ticket)


@pytest.mark.parametrize("text", ["a\0b", "a\ud800"])
def test_text_that_no_file_can_hold_does_not_become_a_class(tmp_path, text):
    annotator = create("labelstudio", tmp_path, {"url": ""})
    ticket = annotator.request(batch("!", open_=True))
    exported(tmp_path, {"from_name": "new_class", "value": {"text": [text]}})
    with pytest.raises(DataError, match=r"task 0 .*cannot be the name of a new class"):
        annotator.collect(ticket)


@pytest.mark.parametrize("name", names())
def test_a_batch_may_have_no_classes_yet(tmp_path, name):
    options = {"oracle": {"truth": "t.csv"}, "labelstudio": {"url": ""}}.get(name, {})
    annotator = create(name, tmp_path, options)
    ticket = annotator.request(batch(open_=True))
    if name in ("file", "oracle"):
        table(tmp_path / ("to_label.csv" if name == "file" else "t.csv"), s0="a", s1="?", s2="b")
    elif name == "labelstudio":
        new = ({"from_name": "new_class", "value": {"text": [label]}} for label in "ab")
        exported(tmp_path, next(new), chosen("rlmba:cannot-tell"), next(new))
    else:
        state = PageState(tmp_path)
        assert state.classes(state.batch(ticket), state.answers(state.batch(ticket))) == []
        for sample, label in (("s0", "a"), ("s1", None), ("s2", "b")):
            state.answer(state.batch(ticket), AnswerEvent(sample, label), 0)
    assert annotator.collect(ticket) == {"s0": "a", "s1": None, "s2": "b"}
