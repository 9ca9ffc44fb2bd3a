"""Whether samples are chosen because they lack a modality, measured by their share in the batches.

    python -m bench.study_absent SET.npz ... [--seeds 4] [--out bench/results/absent.json]

One modality is removed from a random share of a data set's samples. A network is trained on six samples
per class. All strategies that use features select from the rest, with the fused features unchanged
("before") and completed (:mod:`rlmba.strategies.absent`, "after"). A first batch by greedy k-center on the
untrained network is selected in both ways as well. Random selection would match the share.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np

from bench.common import machine_info
from rlmba.data import load_features
from rlmba.learner import configure
from rlmba.learner.network import build_network
from rlmba.strategies import create
from rlmba.training import ProcessGroup
from rlmba.types import LinearHead, QueryContext

FIRST = "first batch"
RULES = (FIRST, "coreset", "rlmba", "rlmba-x", "badge", "bmmal", "gcnal")
BATCHES = (20, 100)
SHARES = (0.01, 0.1, 0.3)


def without_some(path, share, rng, folder):
    """A data set with one modality removed from a share of the samples."""
    with np.load(path) as file:
        arrays = {k: file[k] for k in file.files if file[k].ndim >= 2 or k in ("y", "split")}
    names = [k for k, a in arrays.items() if a.ndim >= 2]
    n = len(arrays["y"])
    present = np.ones((n, len(names)), bool)
    lacking = rng.random(n) < share
    present[lacking, rng.integers(len(names), size=n)[lacking]] = False
    np.savez(folder / path.name, **arrays, present=present)
    return load_features(folder / path.name)


def chosen(network, dataset, rng, seed):
    """The incomplete samples of the pool, and the picks by (rule, batch)."""
    labeled, v, pool = np.split(
        rng.permutation(dataset.train_positions), np.cumsum([6 * len(dataset.classes), 50])
    )
    y, untrained = dataset.labels, network.predict(pool)
    network.fit(labeled, y[labeled], (v, y[v]), seed=seed)
    outputs, known = network.predict(pool), network.predict(labeled)
    head = network.model.fused_head
    context = {
        "head": LinearHead(head.weight.detach().numpy(), head.bias.detach().numpy()),
        "labeled_features": known.fused_features,
        "labeled_modalities": known.features,
        "labeled_present": known.present,
    }
    picks = {}
    for rule in RULES:
        strategy = create("coreset" if rule == FIRST else rule)
        for batch in BATCHES:
            given = QueryContext(
                rng=np.random.default_rng(seed), **({} if rule == FIRST else context)
            )
            looked_at = untrained if rule == FIRST else outputs
            picks[rule, batch] = strategy.query(looked_at, given, batch).positions
            with mock.patch(
                "rlmba.strategies.base.completed", lambda pool, context: (pool, context)
            ):
                given = QueryContext(**{**vars(given), "rng": np.random.default_rng(seed)})
                picks[rule, batch, "before"] = strategy.query(looked_at, given, batch).positions
    return ~outputs.present.all(axis=1), picks


def study(path, share, seeds):
    figures = {}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        config = configure(
            {"dataset": "features", "data": path, "seed": seed},
            settings=["fusion=uniform", "model.width=128", "device=cpu"],
        )
        with tempfile.TemporaryDirectory() as folder:
            dataset = without_some(path, share, rng, Path(folder))
        network = build_network(config, dataset, ProcessGroup.open("cpu", "auto"))
        incomplete, picks = chosen(network, dataset, rng, seed)
        figures.setdefault("chance", []).append(incomplete.mean())
        for (rule, batch, *before), positions in picks.items():
            name = f"{rule}, {batch}, {'before' if before else 'after'}"
            figures.setdefault(name, []).append(incomplete[positions].mean())
    return {name: round(float(np.mean(values)), 4) for name, values in figures.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("bench/results/absent.json"))
    given = parser.parse_args()
    results = {}
    for path in given.sets:
        for share in SHARES:
            results[f"{path.stem}, {share}"] = figures = study(path, share, given.seeds)
            print(path.stem, share, json.dumps(figures), flush=True)
    document = {"machine": machine_info(), "seeds": given.seeds, "results": results}
    given.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
