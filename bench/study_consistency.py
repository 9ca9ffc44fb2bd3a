"""AUBC of the default network with and without a loss on the unlabeled pool.

    OMP_NUM_THREADS=1 python -m bench.study_consistency SET.npz ... [--seeds 8] [--first-seed 0]
        [--forms flex_1,...] [--width 128] [--out bench/results/consistency.json]

Splits are those of :mod:`bench.study_training`; the pool is every training sample without a label that is
not in the validation set. The labels are 10, 20, 50, 100 and 200 random ones; AUBC is the mean test Top-1
of the pooled predictor over these. Every step adds a loss on 64 samples of the pool to the loss of the
labeled minibatch. NAME_W weighs it by W:

- soft: cross-entropy with the class distribution by label spreading on the graph of
  :mod:`bench.study_semi_supervised`, weighted by the largest of its probabilities.
- flex: FlexMatch (Zhang et al. 2021). The class of the pooled prediction for the sample under the dropout
  of the training is the label of a strong view, if its probability exceeds 0.95 times a factor of the
  class that is smaller for classes that few samples have reached. The strong view adds noise of 0.3
  standard deviations, sets a fifth of the features to their mean, and all features of a random modality
  in half of the samples. The weight rises from 0 to W in the second half of the steps.
- entropy: the entropy of every head, plus the divergence of its mean prediction from the prior, which is
  that of the labels, each class counted once more.

Results in the output file of forms that are not given are kept.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from scipy.stats import wilcoxon

from bench.common import write_results
from bench.study_semi_supervised import graph, spread
from bench.study_training import accuracies, configured, split, trained
from rlmba.data import load_features
from rlmba.models import build_classifier
from rlmba.models.classifier import ModelOutput
from rlmba.models.stacked import stacked_forward
from rlmba.training import LabeledSamples, Loader, ProcessGroup
from rlmba.training.minibatches import MinibatchPlan
from rlmba.training.stacked import _batches, _Stack

COUNTS = (10, 20, 50, 100, 200)
FORMS = ("soft_0.1", "flex_0.3", "entropy_0.1")
POOL_BATCH = 64
KEEP = 0.8
THRESHOLD = 0.95


class Unlabeled(_Stack):
    """A stacked training with a loss on samples of the pool."""

    def __init__(self, *given, kind, weight, inputs, pools, targets, priors, **options):
        super().__init__(*given, **options)
        self.kind, self.weight = kind, weight
        self.inputs, self.pools = inputs, torch.from_numpy(pools)
        self.targets, self.priors = targets, priors
        self.random = torch.Generator().manual_seed(options["seeds"][0])
        self.reached = torch.full(pools.shape, -1)  # class that each sample of the pool reached

    def strong(self, x):
        """A view of inputs [K, u, D] with noise, absent features and absent modalities."""
        shape = next(iter(x.values())).shape[:2]
        dropped = torch.randint(2 * len(x), shape, generator=self.random)
        views = {}
        for m, (name, a) in enumerate(x.items()):
            noise = 0.3 * torch.randn(a.shape, generator=self.random)
            kept = torch.rand(a.shape, generator=self.random) < KEEP
            there = (dropped != m)[..., None] if len(x) > 1 else True
            views[name] = (a + noise) * kept * there
        return views

    def step(self, batch, truth, *, measured):
        """One optimizer step of every model, with the loss on the pool."""
        del measured
        k, n = truth.shape
        column = torch.randint(self.pools.shape[1], (k, POOL_BATCH), generator=self.random)
        rows = self.pools.gather(1, column)
        weak = {m: a[rows] for m, a in self.inputs.items()}
        parts = [{m: a.float() for m, a in batch.items()}, weak]
        if self.kind == "flex":
            parts.append(self.strong(weak))
        joined = {m: torch.cat([p[m] for p in parts], dim=1) for m in weak}
        self._optimizer.zero_grad(set_to_none=True)
        state = {**self._parameters, **self._buffers}
        total = next(iter(joined.values())).shape[1]
        output = stacked_forward(self._one, state, joined, self._drawn(total))

        def cut(where):
            return ModelOutput(
                features={m: f[:, where] for m, f in output.features.items()},
                logits={m: z[:, where] for m, z in output.logits.items()},
                fused_features=output.fused_features[:, where],
                fused_logits=output.fused_logits[:, where],
            )

        losses = self._losses(cut(slice(0, n)), truth)
        views = [cut(slice(i, i + POOL_BATCH)) for i in range(n, total, POOL_BATCH)]
        extra = self.extra(column, rows, *views)
        weight = self.weight
        if self.kind == "flex":  # guesses of the first steps are of little worth
            weight *= max(0.0, 2 * len(self.losses) / self._steps - 1)
        torch.autograd.backward((losses + weight * extra).sum())
        self.losses.append(losses.detach())
        self._optimizer.step()
        self._scheduler.step()

    def extra(self, column, rows, weak, strong=None):
        """The loss on the pool of every model [K], summed over the heads."""
        source = weak if strong is None else strong
        heads = [z.log_softmax(dim=2) for z in (source.fused_logits, *source.logits.values())]
        if self.kind == "flex":
            with torch.no_grad():
                p = (sum(weak.logits.values()) / len(weak.logits)).softmax(dim=2)
            confidence, guess = p.max(dim=2)
            passed = confidence > self.limits(column, confidence, guess)
            return sum((-z.gather(2, guess[..., None])[..., 0] * passed).mean(dim=1) for z in heads)
        if self.kind == "soft":
            target = self.targets[torch.arange(len(rows))[:, None], rows]
            trust = target.max(dim=2).values
            return sum((-(target * z).sum(dim=2) * trust).mean(dim=1) for z in heads)
        found = 0
        for z in heads:
            mean = z.exp().mean(dim=1)
            found = found + (mean * (mean.clamp_min(1e-12).log() - self.priors.log())).sum(dim=1)
            found = found - (z.exp() * z).sum(dim=2).mean(dim=1)
        return found

    def limits(self, column, confidence, guess):
        """Smallest confidence [K, u] for a guess to be a label; remembers the samples that are sure."""
        c = self.priors.shape[1]
        counts = torch.stack([torch.bincount(r[r >= 0], minlength=c) for r in self.reached])
        waiting = (self.reached < 0).sum(dim=1)
        most = torch.maximum(counts.max(dim=1).values, waiting).clamp_min(1)
        share = counts / most[:, None]
        sure = torch.where(confidence > THRESHOLD, guess, self.reached.gather(1, column))
        self.reached.scatter_(1, column, sure)
        return (THRESHOLD * share / (2 - share)).gather(1, guess)


def trained_on_both(form, dataset, samples, pools, targets, config):
    """Networks trained on each of the label sets and its pool, as by ``trained``."""
    kind, _, weight = form.partition("_")
    c = len(dataset.classes)
    models = [
        build_classifier(dataset.modalities, c, config.model, "uniform", seed=seed)
        for seed in range(len(samples))
    ]
    given = [LabeledSamples(p, y, seed) for seed, (p, y) in enumerate(samples)]
    group = ProcessGroup(models[0].device, "fp32")
    plans = [
        MinibatchPlan(
            len(s.positions), config.training, epochs=config.epochs, seed=s.seed, group=group
        )
        for s in given
    ]
    counts = np.stack([np.bincount(y, minlength=c) + 1 for _, y in samples])
    batch = dataset.load(np.arange(len(dataset)), train=False, generator=None)
    stack = Unlabeled(
        models,
        config.training,
        seeds=[s.seed for s in given],
        epochs=plans[0].epochs,
        steps=plans[0].steps,
        kind=kind,
        weight=float(weight),
        inputs={m: a.float() for m, a in batch.inputs.items()},
        pools=pools,
        targets=targets,
        priors=torch.from_numpy(counts / counts.sum(axis=1, keepdims=True)).float(),
    )
    for inputs, truth in _batches(Loader(dataset), given, plans, config.training):
        stack.step(inputs, truth, measured=False)
    stack.unstack()
    return models


def study(dataset, seeds, forms, config):
    """By number of labels and form: Top-1 of every seed."""
    splits = [split(dataset, seed) for seed in seeds]
    batch = dataset.load(np.arange(len(dataset)), train=False, generator=None)
    parts = [a.flatten(1).numpy().astype(np.float64) for a in batch.inputs.values()]
    parts = [p / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), 1e-12) for p in parts]
    train = dataset.train_positions
    a, place = graph(np.concatenate(parts, axis=1)[train]), np.full(len(dataset), -1)
    place[train] = np.arange(len(train))
    found = {}
    for n in COUNTS:
        samples = [(order[:n], dataset.labels[order[:n]]) for _, order in splits]
        pools = np.stack([order[n:] for _, order in splits])
        targets = np.zeros((len(splits), len(dataset), len(dataset.classes)), np.float32)
        for target, (rows, y) in zip(targets, samples, strict=True):
            target[train] = spread(a, place[rows], y, len(dataset.classes))
        row = {"off": accuracies(trained(dataset, samples, config), dataset, splits)[:, 1]}
        for form in forms:
            models = trained_on_both(
                form, dataset, samples, pools, torch.from_numpy(targets), config
            )
            row[form] = accuracies(models, dataset, splits)[:, 1]
        found[str(n)] = {form: t.round(4).tolist() for form, t in row.items()}
        print(dataset.name, n, {f: round(float(t.mean()), 4) for f, t in row.items()}, flush=True)
    return found


def p_value(differences):
    """Two-sided p of Wilcoxon's signed-rank test."""
    return round(float(wilcoxon(differences).pvalue), 4) if np.any(differences) else 1.0


def summary(results):
    """By form: mean difference of AUBC to "off" over sets and seeds, by set and count, with p values."""
    out = {}
    rows = [r for found in results.values() for r in found.values()]
    for form in dict.fromkeys(form for r in rows for form in r if form != "off"):
        every = {
            name: np.array([np.subtract(r[form], r["off"]) for r in found.values()])
            for name, found in results.items()
            if all(form in r for r in found.values())
        }
        if not every:
            continue
        by_set = {name: d.mean(axis=0) for name, d in every.items()}
        differences = np.concatenate(list(by_set.values()))
        out[form] = {
            "mean": round(float(differences.mean()), 4),
            "p": p_value(differences),
            "sets": {
                name: {"mean": round(float(d.mean()), 4), "p": p_value(d)}
                for name, d in by_set.items()
            },
            "labels": {
                str(n): round(float(np.mean([d[i] for d in every.values()])), 4)
                for i, n in enumerate(COUNTS)
            },
        }
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path("bench/results/consistency.json"))
    given = parser.parse_args()
    config, forms = configured(given.width), given.forms.split(",")
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    results = {}
    if given.out.exists():
        results = json.loads(given.out.read_text("utf-8"))["results"]
    for path in given.sets:
        before = results.get(path.stem, {})
        found = study(load_features(path), seeds, forms, config)
        results[path.stem] = {n: before.get(n, {}) | row for n, row in found.items()}
        write_results(given.out, summary=summary(results), results=results)
    print(json.dumps(summary(results), indent=1))


if __name__ == "__main__":
    main()
