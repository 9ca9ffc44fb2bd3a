"""Selection from a pool in shards: one process beside two, and their peak memory.

    python -m bench.study_shards FOLDER [--rows 2000000] [--width 256] [--strategies coreset,badge,margin]
        [--count 200] [--repeats 2] [--max-memory 1GiB] [--out bench/results/shards.json]

The pool is made in FOLDER unless it is there: standard normal features and logits of 10 classes, as .npy
files in 16 shards. Each selection is a command of its own with one thread a process. One process and two
alternate, and the least seconds of the selection itself are compared; their batches must be equal. For
k-center, the peer is the usual loop of torch.distributed: one pass over the rows for each center, and the
farthest rows gathered. The distances of its picks must be those of `coreset`.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from bench.common import write_results

SHARDS, CLASSES = 16, 10
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def write_pool(folder, rows, width):
    rng = np.random.default_rng(0)
    for k in range(SHARDS):
        part = folder / f"part-{k}"
        part.mkdir(parents=True, exist_ok=True)
        size = rows * (k + 1) // SHARDS - rows * k // SHARDS
        for name, columns in (("features", width), ("logits", CLASSES)):
            np.save(part / f"{name}.npy", rng.standard_normal((size, columns), dtype=np.float32))


def launched(processes, *command):
    """Run a command in one process or several; return its output and the peak memory of a process in MB."""
    if processes > 1:
        launcher = ["torch.distributed.run", "--nproc-per-node", str(processes)]
        command = ["-m", *launcher, *command]
    timed = ["/usr/bin/time", "-f", "peak %M", sys.executable, *map(str, command)]
    done = subprocess.run(
        timed, capture_output=True, text=True, check=False, env={**os.environ, **ONE_THREAD}
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout, int(re.findall(r"peak (\d+)", done.stderr)[-1]) / 1024


def selected(folder, strategy, count, processes, memory, out):
    said, peak = launched(
        processes, "-m", "rlmba", "select", "--pool", folder, "-n", count, "--strategy", strategy,
        "--out", out, "--force", "--max-memory", memory,
    )  # fmt: skip
    return float(re.findall(r" in ([0-9.]+) s", said)[-1]), peak


def loop(folder, count):
    """Greedy k-center with one pass for each center, as a process of torch.distributed.

    Like `coreset` without labeled samples, it begins with the row nearest to the mean. It prints its
    seconds, and saves the distance of each pick to the nearest one before.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")
    rank = dist.get_rank() if dist.is_initialized() else 0
    size = dist.get_world_size() if dist.is_initialized() else 1
    start = time.perf_counter()
    files = sorted(folder.glob("part-*/features.npy"))[rank::size]
    x = torch.from_numpy(np.concatenate([np.load(f) for f in files]))
    squares = (x * x).sum(1)

    def largest(values):
        """The row of all processes with the largest value, and that value."""
        best = int(values.argmax())
        mine = torch.cat([values[best : best + 1], x[best]])
        if size > 1:
            every = [torch.empty_like(mine) for _ in range(size)]
            dist.all_gather(every, mine)
            mine = max(every, key=lambda row: float(row[0]))
        return mine[1:], float(mine[0])

    total = torch.cat([x.sum(0, dtype=torch.float64), torch.tensor([float(len(x))])])
    if size > 1:
        dist.all_reduce(total)
    mean = (total[:-1] / total[-1]).float()
    center, _ = largest(2 * (x @ mean) - squares)
    nearest = torch.full((len(x),), torch.inf)
    reach = []
    for _ in range(count - 1):
        nearest = torch.minimum(nearest, squares - 2 * (x @ center) + center @ center)
        center, squared = largest(nearest)
        reach.append(max(squared, 0.0) ** 0.5)
    if rank == 0:
        print(f"loop in {time.perf_counter() - start:.3f} s")
        np.save(_reach_file(folder), reach)


def _reach_file(folder):
    return folder.parent / f"{folder.name}-reach.npy"


def _scores(batch):
    with batch.open(encoding="utf-8") as file:
        return np.array([float(row["score"]) for row in csv.DictReader(file)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--strategies", default="coreset,badge,margin")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--max-memory", default="1GiB")
    parser.add_argument(
        "--loop", action="store_true", help="run the loop of the peer in this process"
    )
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.loop:
        loop(given.folder, given.count)
        return
    if not (given.folder / "part-0").exists():
        write_pool(given.folder, given.rows, given.width)
    for file in given.folder.glob("part-*/*.npy"):
        np.load(file)  # all runs find the files in the cache
    batch = given.folder.parent / f"{given.folder.name}-batch.csv"
    found, scores = {}, {}
    for strategy in given.strategies.split(","):
        times, peaks, batches = {1: [], 2: []}, {}, set()
        for _ in range(given.repeats):
            for processes, seconds_of in times.items():
                seconds, peaks[processes] = selected(
                    given.folder, strategy, given.count, processes, given.max_memory, batch
                )
                seconds_of.append(seconds)
                batches.add(batch.read_bytes())
        assert len(batches) == 1, f"{strategy}: one process and two chose other batches"
        scores[strategy] = _scores(batch)
        one, two = min(times[1]), min(times[2])
        found[strategy] = {"seconds": times, "ratio": one / two, "peak_mb": peaks}
        print(strategy, f"one {one:.1f} s, two {two:.1f} s, ratio {one / two:.2f}, {peaks} MB")
    if "coreset" in found:
        script = ["-m", "bench.study_shards", given.folder, "--loop", "--count", given.count]
        peer = {}
        for processes in (1, 2):
            said, peak = launched(processes, *script)
            # Its distances are products in float32, so nearly equal rows may be picked in another order.
            reach = np.load(_reach_file(given.folder))
            np.testing.assert_allclose(reach, scores["coreset"][1:], rtol=1e-3)
            peer[processes] = {
                "seconds": float(re.findall(r"in ([0-9.]+) s", said)[-1]),
                "peak_mb": peak,
            }
        print("one pass a center", peer)
        found["one pass a center"] = peer
    if given.out:
        write_results(given.out, rows=given.rows, width=given.width, count=given.count, **found)


if __name__ == "__main__":
    main()
