"""Estimate selections from 50 million rows on 1, 8 and 64 machines, for a table in docs/large-pools.md.

    python -m bench.estimate_shards [--rows 50000000] [--width 256] [--classes 100] [--count 10000]
        [--gigabytes-per-second 1]

Prints a table in Markdown. Every machine runs one process and has as many cores as this machine. The time
for reading is the number of bytes of a machine's rows divided by the speed of its disk.
"""

from __future__ import annotations

import argparse

from rlmba.strategies import create
from rlmba.strategies.cost import Workload, measure_machine
from rlmba.strategies.sharded import estimate_shards

STRATEGIES = ("margin", "rlmba-x", "coreset", "badge", "rlmba")


def amount(value):
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration(seconds):
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=float, default=5e7)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--machines", default="1,8,64")
    parser.add_argument("--gigabytes-per-second", type=float, default=1.0)
    given = parser.parse_args()
    machine = measure_machine()
    work = Workload(
        samples=int(given.rows), batch=given.count, classes=given.classes, width=given.width,
        modalities=2,
    )  # fmt: skip
    print("| strategy | machines | read | select | memory | temporary files | received | rounds |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name in STRATEGIES:
        strategy = create(name)
        heads = 1 if name != "rlmba" else 2
        row = 4 * (given.classes * heads if name != "coreset" else 0)
        row += 4 * given.width if name != "margin" else 0
        for count in map(int, given.machines.split(",")):
            e = estimate_shards(strategy, work, count, machine=machine, max_memory=64 << 30)
            read = given.rows / count * row / given.gigabytes_per_second / 1e9
            cells = [
                name, count, duration(read), duration(e.seconds), amount(e.memory),
                amount(e.spilled) if e.spilled else "", amount(e.received), e.rounds,
            ]  # fmt: skip
            print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
