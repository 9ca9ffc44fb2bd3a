"""What to label first: representative or random samples, by accuracy after round 0.

    python -m bench.study_cold_start SET.npz ... [--seeds 8] [--out bench/results/cold_start.json]

In each data set of features, twice as many samples as there are classes are labeled, at least ten: by
herding on input features, like the first batch of a project; by greedy k-center on the features of the
untrained network, as in earlier versions; or at random. The same network is trained on each.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from bench.common import machine_info
from rlmba import kernels
from rlmba.data import load_features
from rlmba.learner import configure
from rlmba.learner.network import build_network
from rlmba.method.herding import first_batch
from rlmba.training import ProcessGroup, evaluate


def after_round_0(path, seed):
    """Top-1 on the test split, and the share of classes that the labels cover, for each rule."""
    settings = ["fusion=uniform", "model.width=128", "device=cpu"]
    config = configure({"dataset": "features", "data": path, "seed": seed}, settings=settings)
    dataset = load_features(path)
    c, rng = len(dataset.classes), np.random.default_rng(seed)
    v, pool = np.split(rng.permutation(dataset.train_positions), [max(2 * c, 20)])
    n = max(2 * c, 10)
    network = build_network(config, dataset, ProcessGroup.open("cpu", "auto"))
    features = network.predict(pool).fused_features
    inputs = network.input_features(pool).features
    chosen = {
        "herding": first_batch(inputs, n).indices,
        "k-center": kernels.k_center(features, n).indices,
        "random": rng.permutation(len(pool))[:n],
    }
    y, test = dataset.labels, dataset.test_positions
    figures = {}
    for rule, indices in chosen.items():
        picked = pool[indices]
        network.fit(picked, y[picked], (v, y[v]), seed=seed)
        top1 = evaluate(network.predict(test), y[test]).mm.top1
        figures[rule] = [top1, len(np.unique(y[picked])) / c]
    return figures


def study(path, seeds):
    runs = [after_round_0(path, seed) for seed in range(seeds)]
    top1, share = (
        {rule: np.array([r[rule][k] for r in runs]) for rule in runs[0]} for k in range(2)
    )
    gains = {rule: x - top1["random"] for rule, x in top1.items() if rule != "random"}
    return {
        "seeds": seeds,
        "top1": {rule: float(x.mean()) for rule, x in top1.items()},
        "classes": {rule: float(x.mean()) for rule, x in share.items()},
        "gains": {rule: float(x.mean()) for rule, x in gains.items()},
        "standard_errors": {
            rule: float(x.std(ddof=1) / np.sqrt(seeds)) for rule, x in gains.items()
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("bench/results/cold_start.json"))
    given = parser.parse_args()
    results = {}
    for path in given.sets:
        results[path.stem] = study(path, given.seeds)
        print(path.stem, json.dumps(results[path.stem]), flush=True)
    given.out.write_text(
        json.dumps({"machine": machine_info(), "results": results}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
