"""`rlmba status`: the state of a project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlmba.cli.app import app

_CLASSES = 20


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A project's folder.")],
) -> None:
    """Show the state of a project: rounds, labels by class, the open batch, advice on continuing."""
    from rlmba.cli.people import next_step, say_round
    from rlmba.cli.screen import say
    from rlmba.markup import command
    from rlmba.project.findings import balance, findings
    from rlmba.project.state import status as look

    found = look(folder)
    for record in found.records:
        say_round(record)
    counts = {k: n for k, n in found.by_class.items() if k is not None}
    listed = ", ".join(f"{k} {n}" for k, n in list(counts.items())[:_CLASSES])
    more = ", ..." if len(counts) > _CLASSES else ""
    say(f"labels: {sum(counts.values())}" + (f" ({listed}{more})" if counts else ""))
    if uneven := balance(counts):
        say(uneven)
    if found.records:
        for line in findings(found.records[-1], found.classes):
            say(line)
    if unknown := found.by_class.get(None):
        say(f'marked "cannot tell": {unknown}')
    if found.asked:
        say(f"open batch: {found.answered} of {found.asked} answered, with {found.annotator}")
    if found.trouble:
        say(f"answers cannot be read: {found.trouble}")
    if found.holder:
        say(f"being written by {found.holder}")
    if found.target is not None:
        say(f"the next round has {found.target} labels outside the validation set (budgets)")
    if found.advice is not None:
        say(found.advice.text)
    if found.asked and found.answered < found.asked:
        page = [command("label", folder)] if found.annotator == "browser" else []
        next_step(*page, command("collect", folder))
    else:
        next_step(command("collect" if found.asked else "next", folder))
