"""k-means++ seeding beside k-means|| of dask-ml: seconds, and how well the seeds cover the rows.

    python -m bench.study_seeding [--rows 400000] [--width 64] [--count 200] [--seeds 3]
        [--out bench/results/seeding.json]

Needs dask-ml. Rows are in memory, in 8 chunks for dask, whose default threads do the work. Both use all
cores. By default dask-ml draws about 2 rows in each of some 15 steps and fills up with uniform draws, so
it is also run with the oversampling of the paper (Bahmani et al., 2012).

The potential is the mean squared distance of a row to its nearest seed. k-means++ draws rows from the D^2
law itself; k-means|| draws many rows at a time, and clusters those: its seeds are means, whose potential is
lower. k-means++ with 5 Lloyd steps gives means as well.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from bench.common import write_results
from rlmba import kernels


def made(rows, width, clusters=500):
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((clusters, width), dtype=np.float32) * 3
    sizes = rng.pareto(1.0, clusters) + 0.05
    labels = rng.choice(clusters, rows, p=sizes / sizes.sum())
    return centers[labels] + rng.standard_normal((rows, width), dtype=np.float32)


def potential(x, seeds):
    squares = kernels.min_distance(x, np.ascontiguousarray(seeds, np.float32)).distances ** 2
    some = np.linspace(0, len(x) - 1, 200).astype(int)
    exact = ((x[some, None].astype(float) - seeds[None]) ** 2).sum(axis=2).min(axis=1)
    np.testing.assert_allclose(squares[some], exact, rtol=1e-4)
    return float(squares.mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    import dask.array as da
    from dask_ml.cluster.k_means import init_scalable

    x = made(given.rows, given.width)
    parts = da.from_array(x, chunks=(given.rows // 8, given.width)).persist()
    names = ("rlmba", "rlmba, 5 Lloyd steps", "dask-ml", "dask-ml, l = k / 2", "uniform")
    found = {name: {"seconds": [], "potential": []} for name in names}

    def run(name, seeding):
        start = time.perf_counter()
        seeds = np.asarray(seeding())
        found[name]["seconds"].append(time.perf_counter() - start)
        assert seeds.shape == (given.count, given.width)
        found[name]["potential"].append(potential(x, seeds))

    def scalable(seed, factor):
        state = da.random.RandomState(seed)
        centers = init_scalable(parts, given.count, random_state=state, oversampling_factor=factor)
        return centers[0] if isinstance(centers, tuple) else centers

    for seed in range(given.seeds):
        rng = np.random.default_rng(seed)
        run("rlmba", lambda s=seed: x[kernels.kmeans_plusplus(x, given.count, rng=s).indices])
        run("rlmba, 5 Lloyd steps", lambda s=seed: kernels.kmeans(x, given.count, rng=s).centers)
        run("dask-ml", lambda s=seed: scalable(s, 2))
        run("dask-ml, l = k / 2", lambda s=seed: scalable(s, given.count / 2))
        run("uniform", lambda r=rng: x[r.choice(given.rows, given.count, replace=False)])
    best = {name: min(f["seconds"]) for name, f in found.items()}
    mean = {name: float(np.mean(f["potential"])) for name, f in found.items()}
    print({name: f"{best[name]:.2f} s, potential {mean[name]:.2f}" for name in found})
    for name in names[2:4]:
        print(f"{name} takes {best[name] / best['rlmba']:.1f} times as long")
    if given.out:
        sizes = {"rows": given.rows, "width": given.width, "count": given.count}
        write_results(given.out, **sizes, threads=torch.get_num_threads(), **found)


if __name__ == "__main__":
    main()
