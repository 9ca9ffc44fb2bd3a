"""Top-1 of the default network with and without pseudo-labels of the unlabeled pool.

    OMP_NUM_THREADS=1 python -m bench.study_semi_supervised SET.npz ... [--seeds 5] [--width 256]
        [--out bench/results/semi_supervised.json]

Splits are those of :mod:`bench.study_training`; the pool is every training sample without a label that is
not in the validation set. In each form, pool samples get a class and a confidence, the most confident
samples become pseudo-labels, and a network is trained on labels and pseudo-labels together:

- self_K: class and confidence are the pooled prediction of the network that was trained on the labels.
- spread_K: they come from label spreading on the graph of the ten nearest neighbors (Zhou et al. 2004),
  by cosine, on the concatenated features of the modalities, each standardized and of unit length.
- agree_K: pool samples on whose class both agree, by the confidence of the network.

K is the number of pseudo-labels for each label. Every pseudo-label has the weight of a label.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array, diags_array
from scipy.stats import wilcoxon
from sklearn.neighbors import NearestNeighbors

from bench.common import write_results
from bench.study_training import accuracies, configured, split, trained
from rlmba.data import load_features
from rlmba.training import Loader, predict

COUNTS = (20, 100)
FORMS = ("self_1", "self_3", "spread_1", "spread_3", "agree_1")


def graph(x, k=10):
    """Symmetric normalized adjacency of the k nearest neighbors by cosine, weights exp(-d² / mean d²)."""
    distance, neighbor = NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors(x)
    distance, neighbor = distance[:, 1:], neighbor[:, 1:]
    weight = np.exp(-(distance**2) / np.mean(distance**2))
    rows = np.repeat(np.arange(len(x)), k)
    a = coo_array((weight.ravel(), (rows, neighbor.ravel())), shape=(len(x), len(x))).tocsr()
    a = a.maximum(a.T)
    scale = diags_array(1 / np.sqrt(np.maximum(a.sum(axis=1), 1e-12)))
    return scale @ a @ scale


def spread(a, rows, y, classes, alpha=0.9, steps=30):
    """Class distribution of every node by label spreading from the labeled rows."""
    start = np.zeros((a.shape[0], classes))
    start[rows, y] = 1
    start /= np.maximum(start.sum(axis=0), 1)  # every class starts with the same mass
    found = start
    for _ in range(steps):
        found = alpha * (a @ found) + (1 - alpha) * start
    return found / np.maximum(found.sum(axis=1, keepdims=True), 1e-30)


def confidences(model, dataset):
    """Class probabilities of every sample: geometric mean of the heads' softmax."""
    outputs = predict(model, Loader(dataset), np.arange(len(dataset)), batch_size=2048)
    logits = sum(np.asarray(z, np.float64) for z in outputs.logits.values()) / len(outputs.logits)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def pseudo_labeled(form, labeled, y, pool, network, graph_p):
    """Labels and the pseudo-labels of a form."""
    kind, _, share = form.partition("_")
    p = graph_p if kind == "spread" else network
    chosen, confidence = p[pool].argmax(axis=1), p[pool].max(axis=1)
    if kind == "agree":
        confidence = confidence * (chosen == graph_p[pool].argmax(axis=1))
    best = np.argsort(-confidence, kind="stable")[: int(share) * len(labeled)]
    best = best[confidence[best] > 0]
    return np.concatenate([labeled, pool[best]]), np.concatenate([y, chosen[best]])


def study(dataset, seeds, config):
    """By number of labels and form: Top-1 of every seed."""
    splits = [split(dataset, seed) for seed in range(seeds)]
    batch = dataset.load(np.arange(len(dataset)), train=False, generator=None)
    parts = [a.flatten(1).numpy().astype(np.float64) for a in batch.inputs.values()]
    parts = [p / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), 1e-12) for p in parts]
    train = dataset.train_positions
    a, place = graph(np.concatenate(parts, axis=1)[train]), np.full(len(dataset), -1)
    place[train] = np.arange(len(train))
    found = {}
    for n in (n for n in COUNTS if 2 * n <= len(splits[0][1])):
        labeled = [(order[:n], dataset.labels[order[:n]]) for _, order in splits]
        models = trained(dataset, labeled, config)
        row = {"off": accuracies(models, dataset, splits)[:, 1]}
        guesses = []
        for model, (rows, y) in zip(models, labeled, strict=True):
            graph_p = np.zeros((len(dataset), len(dataset.classes)))
            graph_p[train] = spread(a, place[rows], y, len(dataset.classes))
            guesses.append((confidences(model, dataset), graph_p))
        for form in FORMS:
            samples = [
                pseudo_labeled(form, rows, y, order[n:], *guess)
                for (_, order), (rows, y), guess in zip(splits, labeled, guesses, strict=True)
            ]
            row[form] = accuracies(trained(dataset, samples, config), dataset, splits)[:, 1]
        found[str(n)] = {form: t.round(4).tolist() for form, t in row.items()}
        print(dataset.name, n, {f: round(float(t.mean()), 4) for f, t in row.items()}, flush=True)
    return found


def summary(results):
    """By form: mean difference to "off" over sets, counts and seeds, on each set, and Wilcoxon's p."""
    out = {}
    for form in FORMS:
        by_set = {
            name: np.mean([np.subtract(r[form], r["off"]) for r in found.values()], axis=0)
            for name, found in results.items()
        }
        differences = np.concatenate(list(by_set.values()))
        out[form] = {
            "mean": round(float(differences.mean()), 4),
            "p": round(float(wilcoxon(differences).pvalue), 4) if differences.any() else 1.0,
            "sets": {name: round(float(d.mean()), 4) for name, d in by_set.items()},
        }
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path("bench/results/semi_supervised.json"))
    given = parser.parse_args()
    config = configured(given.width)
    results = {}
    for path in given.sets:
        results[path.stem] = study(load_features(path), given.seeds, config)
        write_results(given.out, summary=summary(results), results=results)
    print(json.dumps(summary(results), indent=1))


if __name__ == "__main__":
    main()
