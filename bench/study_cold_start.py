"""What to label first: representative or random samples, by accuracy after round 0.

    python -m bench.study_cold_start SET.npz ... [--trouble] [--rules herding,random]
        [--seeds 8] [--out bench/results/cold_start.json]

In each data set of features, twice as many samples as there are classes are labeled, at least ten. The
same network is trained on those of each rule:

- herding: by herding on input features, like the first batch of a project.
- k-center-inputs: by greedy k-center on the same features.
- k-center: by greedy k-center on the features of the untrained network, as in earlier versions.
- random.

With --trouble, a random fifth of the training samples is there twice (the copy with noise of a twentieth
of each feature's deviation), and 30 % of all training samples then lack a random modality. In addition to
Top-1, the results count the pairs of copies in a batch, and its samples that lack a modality. Results of
sets that are not given are kept; those with trouble have a name of their own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from bench.common import write_results
from rlmba import kernels
from rlmba.data import load_features
from rlmba.learner import configure
from rlmba.learner.network import build_network
from rlmba.method.herding import first_batch
from rlmba.training import ProcessGroup, evaluate

RULES = "herding,k-center-inputs,k-center,random"
COPIED, NOISE, LACKING = 0.2, 0.05, 0.3


def troubled(path, seed, folder):
    """Write the set with near-duplicates and missing modalities; the path, and the copied rows."""
    rng = np.random.default_rng(seed)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file if name not in ("ids", "present")}
    names = [name for name, a in arrays.items() if a.ndim > 1]
    train = np.flatnonzero(arrays["split"] == 0)
    copied = rng.choice(train, round(COPIED * len(train)), replace=False)
    n = len(arrays["y"])
    rows = np.concatenate([np.arange(n), copied])
    found = {name: a[rows] if len(a) == n else a for name, a in arrays.items()}
    for name in names:
        x = found[name].astype(np.float32)
        deviation = x[train].std(axis=0)
        x[n:] += NOISE * deviation * rng.normal(size=x[n:].shape).astype(np.float32)
        found[name] = x
    train = np.flatnonzero(found["split"] == 0)
    lacking = rng.choice(train, round(LACKING * len(train)), replace=False)
    present = np.ones((len(rows), len(names)), np.uint8)
    present[lacking, rng.integers(len(names), size=len(lacking))] = 0
    for column, name in enumerate(names):
        found[name][present[:, column] == 0] = 0
    target = Path(folder) / path.name
    np.savez(target, present=present, **found)
    return target, copied, n


def choices(rules, network, pool, n, rng):
    """Positions into the pool that each rule chooses."""
    inputs = network.input_features(pool)
    found = {}
    if "herding" in rules:
        found["herding"] = first_batch(inputs.features, n).indices
    if "k-center-inputs" in rules:
        joined = np.concatenate(list(inputs.features.values()), axis=1)
        found["k-center-inputs"] = kernels.k_center(joined, n).indices
    if "k-center" in rules:
        features = network.predict(pool).fused_features
        found["k-center"] = kernels.k_center(features, n).indices
    return found | {"random": rng.permutation(len(pool))[:n]}


def after_round_0(path, seed, rules, copied=(), first_copy=0):
    """Of each rule: Top-1 on the test split, the share of classes covered, pairs, incomplete samples."""
    settings = ["fusion=uniform", "model.width=128", "device=cpu"]
    config = configure({"dataset": "features", "data": path, "seed": seed}, settings=settings)
    dataset = load_features(path)
    c, rng = len(dataset.classes), np.random.default_rng(seed)
    v, pool = np.split(rng.permutation(dataset.train_positions), [max(2 * c, 20)])
    n = max(2 * c, 10)
    network = build_network(config, dataset, ProcessGroup.open("cpu", "auto"))
    y, test = dataset.labels, dataset.test_positions
    original = np.arange(len(dataset))
    original[first_copy : first_copy + len(copied)] = copied
    figures = {}
    for rule, indices in choices(rules, network, pool, n, rng).items():
        picked = pool[indices]
        network.fit(picked, y[picked], (v, y[v]), seed=seed)
        top1 = evaluate(network.predict(test), y[test]).mm.top1
        complete = np.ones(n) if dataset.present is None else dataset.present[picked].all(axis=1)
        figures[rule] = {
            "top1": top1,
            "classes": len(np.unique(y[picked])) / c,
            "pairs": n - len(np.unique(original[picked])),
            "incomplete": 1 - complete.mean(),
        }
    return figures


def study(path, seeds, rules, trouble):
    runs = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            given = troubled(path, seed, folder) if trouble else (path,)
            runs.append(after_round_0(given[0], seed, rules, *given[1:]))
    names = ("top1", "classes", "pairs", "incomplete") if trouble else ("top1", "classes")
    figures = {
        name: {rule: np.array([float(r[rule][name]) for r in runs]) for rule in runs[0]}
        for name in names
    }
    top1 = figures["top1"]
    gains = {rule: x - top1["random"] for rule, x in top1.items() if rule != "random"}
    return {
        "seeds": seeds,
        **{
            name: {rule: float(x.mean()) for rule, x in found.items()}
            for name, found in figures.items()
        },
        "gains": {rule: float(x.mean()) for rule, x in gains.items()},
        "standard_errors": {
            rule: float(x.std(ddof=1) / np.sqrt(seeds)) for rule, x in gains.items()
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--trouble", action="store_true")
    parser.add_argument("--rules", default=RULES)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("bench/results/cold_start.json"))
    given = parser.parse_args()
    results = {}
    if given.out.exists():
        results = json.loads(given.out.read_text("utf-8"))["results"]
    for path in given.sets:
        name = f"{path.stem}, duplicates and missing modalities" if given.trouble else path.stem
        results[name] = study(path, given.seeds, given.rules.split(","), given.trouble)
        print(name, json.dumps(results[name]), flush=True)
        write_results(given.out, results=results)


if __name__ == "__main__":
    main()
