from __future__ import annotations

import pytest

from rlmba.annotators import LabelBatch, Question, create
from rlmba.annotators.oracle import Oracle
from rlmba.errors import AnnotatorError, DataError, UsageError


def batch_of(*ids: str, open_: bool = False) -> LabelBatch:
    questions = tuple(Question(i, rank) for rank, i in enumerate(ids, start=1))
    return LabelBatch(4, ("cat", "dog"), open_, {}, questions)


def test_it_answers_what_is_asked_and_looks_only_then(tmp_path):
    truth = tmp_path / "truth.csv"
    oracle = create("oracle", tmp_path / "project", {"truth": str(truth)})
    ticket = oracle.request(batch_of("c", "a"))
    assert oracle.request(batch_of("c", "a")) == ticket
    with pytest.raises(DataError, match="no such file"):
        oracle.collect(ticket)
    truth.write_text("id,label,text\na,Cat,x\nb,something else,y\nc,?,z\n")
    again = Oracle(tmp_path / "project", truth=truth)
    assert dict(again.collect(ticket)) == {"c": None, "a": "cat"}
    assert list(again.collect(ticket)) == ["c", "a"]


def test_ids_without_a_truth_are_named(tmp_path):
    (tmp_path / "truth.csv").write_text("id,label\na,cat\nb,\n")
    oracle = Oracle(tmp_path, truth="truth.csv")
    ticket = oracle.request(batch_of("a", "b", "c"))
    with pytest.raises(
        AnnotatorError, match="each of the 3 ids asked for, 2 have none, the first is 'b'"
    ):
        oracle.collect(ticket)


def test_a_truth_outside_the_classes(tmp_path):
    (tmp_path / "truth.csv").write_text("id,label\na,cow\n")
    oracle = Oracle(tmp_path, truth="truth.csv")
    with pytest.raises(DataError, match=r"truth\.csv, line 2: label 'cow' is not one of"):
        oracle.collect(oracle.request(batch_of("a")))
    assert oracle.collect(oracle.request(batch_of("a", open_=True))) == {"a": "cow"}


def test_it_needs_a_truth(tmp_path):
    with pytest.raises(UsageError, match="needs the option 'truth'"):
        create("oracle", tmp_path)
    oracle = Oracle(tmp_path, truth="truth.csv")
    with pytest.raises(AnnotatorError, match="ask again"):
        oracle.collect("round_000")
