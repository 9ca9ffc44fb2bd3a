"""Results: a JSON file, and the short table that is printed at the end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.gpu.case import Case

__all__ = ["failures", "floors", "lines", "read_steps", "write"]


def write(
    path: Path,
    machine: Mapping[str, Any],
    ceilings: Mapping[str, float],
    rows: Sequence[Mapping[str, Any]],
    steps: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write all results as JSON, atomically."""
    found = {
        "machine": dict(machine),
        "ceilings": dict(ceilings),
        "steps": [dict(s) for s in steps],
        "rows": [{k: v for k, v in row.items() if k != "trace"} for row in rows],
    }
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def read_steps(path: Path) -> list[dict[str, Any]]:
    """Steps of the suite from lines of ``status<TAB>seconds<TAB>name<TAB>remark``."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        status, seconds, name, remark = line.split("\t")
        found.append({"name": name, "status": status, "seconds": float(seconds), "remark": remark})
    return found


def lines(found: Mapping[str, Any]) -> Iterable[str]:
    """The table of a result, one line per implementation; at most 110 columns wide."""
    machine, ceilings = found["machine"], found.get("ceilings") or {}
    yield f"{machine.get('device')}; {machine.get('clock')}"
    if ceilings:
        yield (
            f"copy {ceilings['copy_bytes_per_second'] / 1e12:.3f} TB/s, bf16 product "
            f"{ceilings['matmul_operations_per_second'] / 1e12:.1f} TFLOP/s"
        )
    yield f"{'case':<28} {'form':<18} {'p20':>9} {'p50':>9} {'p80':>9} ms {'copy':>6} {'matmul':>6}  aim"
    for row in found["rows"]:
        yield _line(row)
    for step in found.get("steps", ()):
        remark = f"  {step['remark']}" if step["remark"] else ""
        yield f"{step['status']:<6} {step['seconds']:6.0f} s  {step['name']}{remark}"


def _line(row: Mapping[str, Any]) -> str:
    start = f"{row['case']:<28} {row['form']:<18} "
    if row["p50"] is None:
        said = row["status"] if row["problem"] is None else f"{row['status']}: {row['problem']}"
        return (start + said)[:110]
    times = " ".join(f"{row[q] * 1e3:9.4f}" for q in ("p20", "p50", "p80"))
    aim = ""
    if row["ours"]:
        aim = row["aim"] + {True: " met", False: " not met", None: ""}[row["met"]]
    fractions = f"{row['fraction_of_copy']:6.3f} {row['fraction_of_matmul']:6.3f}"
    return f"{start}{times}    {fractions}  {aim}".rstrip()


def failures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Problems to report: a backend of ours that failed, a case without any of our backends."""
    found = [
        f"{r['case']}, {r['form']}: {r['problem']}"
        for r in rows
        if r["ours"] and r["status"] == "failed"
    ]
    for case in dict.fromkeys(r["case"] for r in rows):
        own = [r for r in rows if r["case"] == case and r["ours"]]
        if own and all(r["status"] == "absent" for r in own):
            found.append(f"{case}: no backend serves it")
    return found


COPY, PRODUCT = 4.3e12, 790e12
"""Bytes and bfloat16 operations per second of one H200, for the table of floors."""


def floors(cases: Iterable[Case]) -> Iterable[str]:
    """Lines of the table of floors in kernels/README.md, without the last column."""
    for c in cases:
        floor = c.floor_at(c.full)
        sizes = {k: v for k, v in c.full.items() if k != "slack"}
        size = ", ".join(f"{k} {v:,}" for k, v in sizes.items())
        times = (floor.bytes / COPY, floor.operations / PRODUCT)
        by_bytes, by_operations = (
            f"{t * 1e3:.3g} ms" if t >= 1e-6 else "< 0.001 ms" for t in times
        )
        done = floor.operations / 1e9
        yield (
            f"| {c.name} | {size} | {floor.bytes / 1e9:.3g} GB | {by_bytes} "
            f"| {done:{'.3g' if done < 1e3 else ',.0f'}} GFLOP | {by_operations} | {c.aim} |"
        )
