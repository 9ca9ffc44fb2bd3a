"""Command line of the GPU benchmarks; see ``python -m bench.gpu --help``."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.gpu import case as cases
from bench.gpu import distances, gradients, machine, rowwise, selection, table

CASES = (*rowwise.CASES, *distances.CASES, *gradients.CASES, *selection.CASES)
RESULT = "suite.json"
ROOT = Path(__file__).parents[2]


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    command = p.add_subparsers(dest="command", required=True)
    command.add_parser("floors", help="print the table of floors of kernels/README.md")
    one = command.add_parser("one", help="run a group of cases here and print its rows as JSON")
    one.add_argument("group", choices=sorted({c.group for c in CASES}))
    one.add_argument("--ceilings", type=json.loads, required=True)
    every = command.add_parser("run", help="run groups, each in its own process, and write JSON")
    every.add_argument("out", type=Path, help="folder")
    every.add_argument("--groups", nargs="+", default=list(dict.fromkeys(c.group for c in CASES)))
    every.add_argument("--seconds", type=float, default=150, help="for all groups together")
    check = command.add_parser("check", help="check answers without timing, all in this process")
    last = command.add_parser("table", help="add the suite's steps to the JSON and print the table")
    last.add_argument("out", type=Path, help="folder")
    last.add_argument("--steps", type=Path, help="lines that gpu_suite.sh wrote")
    for sub in (one, every, check):
        sub.add_argument("--tiny", action="store_true", help="sizes for tests")
    for sub in (one, check):
        sub.add_argument("--backends", nargs="+", help="instead of those that a case names")
    return p


def _one(options: argparse.Namespace) -> int:
    device = machine.here()
    rows: list[dict[str, Any]] = []
    for c in CASES:
        if c.group == options.group:
            found = cases.run(
                c, device, options.ceilings, tiny=options.tiny, backends=options.backends
            )
            rows += [r.to_dict() for r in found]
    print(json.dumps(rows))
    return 0


def _check(options: argparse.Namespace) -> int:
    bad = 0
    for c in CASES:
        for row in cases.run(
            c, machine.here(), {}, tiny=options.tiny, backends=options.backends,
            peers=False, timed=False,
        ):  # fmt: skip
            said = {"timed": "right"}.get(row.status, row.status)
            print(f"{c.name}, {row.form}: {said} {row.problem or ''}".rstrip(), flush=True)
            bad += row.status == "failed"
    return bad


def _run(options: argparse.Namespace) -> int:
    device = machine.here()
    if device.type == "cpu" and not options.tiny:
        print(
            "expected a GPU that torch sees, found none; --tiny runs without one", file=sys.stderr
        )
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    described, ceilings = machine.describe(device), machine.ceilings(device)
    if device.type == "cuda":
        import torch

        torch.cuda.empty_cache()
    end = time.monotonic() + options.seconds
    rows: list[dict[str, Any]] = []
    for group in options.groups:
        rows += _in_own_process(group, ceilings, end - time.monotonic(), tiny=options.tiny)
        table.write(options.out / RESULT, described, ceilings, rows)
    for problem in table.failures(rows):
        print(problem, file=sys.stderr)
    return int(bool(table.failures(rows)))


def _in_own_process(
    group: str, ceilings: dict[str, float], seconds: float, *, tiny: bool
) -> list[dict[str, Any]]:
    """Rows of a group; if its process fails, a failed row for each of its cases."""
    command = [sys.executable, "-m", "bench.gpu", "one", group, "--ceilings", json.dumps(ceilings)]
    problem = "out of time before it began"
    if seconds > 1:
        try:
            done = subprocess.run(
                [*command, *(["--tiny"] if tiny else [])],
                capture_output=True, text=True, timeout=seconds, check=False, cwd=ROOT,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            problem = f"out of time after {seconds:.0f} s"
        else:
            sys.stderr.write(done.stderr)
            if done.returncode == 0:
                found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
                for row in found:
                    sys.stderr.write(row["trace"] or "")
                return found
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            problem = f"its process ended with {done.returncode}: {last}"
    return [_failed(c, problem, tiny=tiny) for c in CASES if c.group == group]


def _failed(c: cases.Case, problem: str, *, tiny: bool) -> dict[str, Any]:
    shape = c.tiny if tiny else c.full
    floor = c.floor_at(shape)
    return cases.Row(
        case=c.name, form="rlmba", ours=True, shape=shape, dtype=c.dtype,
        bytes=floor.bytes, operations=floor.operations, aim=str(c.aim), problem=problem,
    ).to_dict()  # fmt: skip


def _table(options: argparse.Namespace) -> int:
    path = options.out / RESULT
    found: dict[str, Any] = {"machine": machine.describe(machine.here()), "rows": []}
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
    if options.steps is not None:
        found["steps"] = table.read_steps(options.steps)
        table.write(
            path, found["machine"], found.get("ceilings", {}), found["rows"], found["steps"]
        )
    for line in table.lines(found):
        print(line)
    return 0


def _floors(_options: argparse.Namespace) -> int:
    for line in table.floors(CASES):
        print(line)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    options = parser().parse_args(arguments)
    commands = {"one": _one, "run": _run, "check": _check, "table": _table, "floors": _floors}
    return commands[options.command](options)


if __name__ == "__main__":
    sys.exit(main())
