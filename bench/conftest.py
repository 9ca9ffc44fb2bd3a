"""Add the machine to pytest-benchmark's JSON, and the memory traffic to its report."""

from __future__ import annotations

from typing import Any

import common


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info["rlmba"] = common.machine_info()


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Remove the single samples and the host name from the JSON."""
    output_json["machine_info"] = output_json["machine_info"]["rlmba"]
    for row in output_json["benchmarks"]:
        row["stats"].pop("data", None)


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    session = getattr(config, "_benchmarksession", None)
    rows = [b for b in getattr(session, "benchmarks", []) if "fraction_of_copy" in b.extra_info]
    if rows:
        terminalreporter.section("bytes moved against the machine's copy bandwidth")
    for b in rows:
        e = b.extra_info
        terminalreporter.write_line(
            f"{b.group or '-':<34} {b.name:<40} {b.stats.min * 1e3:9.2f} ms "
            f"{e['gigabytes_per_second']:7.2f} GB/s of {e['copy_gigabytes_per_second']:.2f}: "
            f"{e['fraction_of_copy']:.3f}"
        )
