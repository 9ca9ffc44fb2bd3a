"""Output shared by the commands of a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rlmba.cli.screen import say
from rlmba.markup import command
from rlmba.types import Evaluation, RoundRecord

if TYPE_CHECKING:
    from rlmba.project.answers import CollectedLabels
    from rlmba.project.query import Query

__all__ = ["next_step", "say_collected", "say_learned", "say_query", "say_round"]


def next_step(*commands: str, between: str = "or") -> None:
    """Print the commands to run next: alternatives, or, with "then" between, in this order."""
    say("next: " + f"   {between}   ".join(commands))


def say_query(folder: Path, query: Query) -> None:
    """Print which batch is with the annotator, and where."""
    batch = query.batch
    if batch is None:
        say(query.why)
        if query.ready:
            next_step(command("collect", folder))
        return
    training = sum(q.purpose == "train" for q in batch.questions)
    validating = len(batch.questions) - training
    parts = [f"{training} to train on"] if training else []
    parts += [f"{validating} to validate with"] if validating else []
    still = "still " if query.repeated else ""
    say(f"round {batch.round}: {len(batch)} samples {still}to label: {', '.join(parts)}")
    for line in _where(folder, query):
        say(line)
    next_step(*_label_with(folder, query.annotator), command("collect", folder), between="then")


def _where(folder: Path, query: Query) -> list[str]:
    if query.annotator == "file":
        return [str(folder / "to_label.csv")]
    return []


def _label_with(folder: Path, annotator: str) -> list[str]:
    return [command("label", folder)] if annotator == "browser" else []


def say_collected(folder: Path, found: CollectedLabels) -> None:
    """Print what was collected, and the round, if it is complete."""
    if found.new:
        corrected = f", {found.corrected} of them corrections" if found.corrected else ""
        say(f"{found.new} new answers{corrected}")
    if found.record is not None:
        say_learned(found)
        next_step(command("next", folder), command("status", folder))
        return
    if found.asked:
        say(f"{found.answered} of {found.asked} samples of the batch are answered")
    say(found.why)
    if found.answered and found.missing:
        next_step(command("collect", folder, "--partial"), "label the rest and collect again")


def say_learned(found: CollectedLabels) -> None:
    """Print the round that was trained, and what should be known about its accuracy."""
    from rlmba.project.findings import findings

    if found.record is not None:
        say_round(found.record)
        for line in findings(found.record, found.classes):
            say(line)


def say_round(record: RoundRecord) -> None:
    """Print a round on one line: Top-1, macro accuracy and share of the largest class of each set."""
    v = record.validation
    heads = "".join(f", {m} {v.heads[m].top1:.3f}" for m in v.modalities)
    say(
        f"round {record.round}: {record.labels} labels; {v.size} validation samples: {_accuracy(v)}{heads}"
        + (
            f"; {record.test.size} test samples: {_accuracy(record.test)}"
            if record.test is not None
            else ""
        )
    )


def _accuracy(evaluation: Evaluation) -> str:
    largest = "" if evaluation.majority is None else f", largest class {evaluation.majority:.3f}"
    return f"Top-1 {evaluation.mm.top1:.3f} (macro {evaluation.mm.top1_macro:.3f}{largest})"
