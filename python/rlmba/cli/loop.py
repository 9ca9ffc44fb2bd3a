"""`rlmba loop`: run a project's rounds one after another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlmba.cli.app import app

if TYPE_CHECKING:
    from rlmba.learner.query import Announce
    from rlmba.project.answers import CollectedLabels
    from rlmba.project.query import Query


class LoopProgress:
    """Prints the progress of the loop; see :class:`rlmba.project.rounds.Watcher`."""

    def __init__(self, folder: Path, stage: Announce) -> None:
        self._folder = folder
        self.stage = stage

    def serving(self, url: str) -> None:
        """Print the link."""
        from rlmba.cli.screen import say

        say(f"label here: {url}")

    def asked(self, query: Query) -> None:
        """Print the size of a batch."""
        from rlmba.cli.screen import say

        if query.batch is not None:
            n = len(query.batch.questions)
            say(f"round {query.batch.round}: {n} samples are with {query.annotator}")

    def waiting(self, answered: int, asked: int, trouble: str) -> None:
        """Show the number of answers."""
        from rlmba.cli.screen import say

        self.stage(f"waiting for labels: {answered} of {asked}")
        if trouble:
            say(f"waiting; answers cannot be read: {trouble}")

    def collected(self, found: CollectedLabels) -> None:
        """Print the round."""
        from rlmba.cli.people import say_learned
        from rlmba.cli.screen import say

        if found.record is not None:
            say_learned(found)
        elif found.why:
            say(found.why)


@app.command()
def loop(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A project's folder.")],
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many rounds. [default: no limit]")
    ] = None,
    until_advised: Annotated[
        bool,
        typer.Option("--until-advised", help="Stop when another batch is not worth its labels."),
    ] = False,
) -> None:
    """Repeat: request labels, wait for them, train. With the annotator browser, also serve its page."""
    from rlmba.cli.counter import stages
    from rlmba.cli.people import next_step
    from rlmba.cli.screen import say
    from rlmba.markup import command
    from rlmba.project.rounds import loop as go

    with stages() as announce:
        why = go(folder, LoopProgress(folder, announce), rounds=rounds, until_advised=until_advised)
    say(why)
    next_step(
        command("status", folder), command("report", folder), f"{command('predict', folder)} ..."
    )
