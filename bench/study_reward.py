"""How often the advantage of a batch has the sign of the batch's surprise on the test split, by reward.

    python -m bench.study_reward SET.npz ... [--seeds 12] [--out bench/results/reward.json]

Untrained policies of a strategy draw batches from a cold start: one label per class, then one more per
class in each round. In every round, several siblings draw a batch from the same state, and a network is
trained with each batch. The first sibling's run continues. A network with another seed is trained on the
same labels, which separates the worth of a batch from the noise of one training.

Three surprises of a batch are computed from Top-1 on the test split: `level`, relative to the mean of the
other seeds at that number of labels; `gain`, the same for the gain since the last round; `batch`, relative
to the mean of its siblings. `batch, retrained` is `batch` computed with the other network.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from bench.common import write_results
from rlmba.experiments.policy_training import agent_of
from rlmba.experiments.policy_training.runs import configurations, run_all
from rlmba.learner import TrainedTogether
from rlmba.method.agent import Collector
from rlmba.method.reward import Baseline, Reward

SETTINGS = (
    "fusion=adaptive",
    "model.width=128",
    "training.augment=false",
    "training.minibatch_size=32",
    "training.min_steps=150",
    "training.learning_rate=4e-3",
    "device=cpu",
)
BASELINES = ("gcnal", "badge", "bmmal")
RULES = {
    "absolute, moving": ("absolute", 0.0, "moving"),
    "absolute smoothed by 0.9, moving": ("absolute", 0.9, "moving"),
    "absolute, expected": ("absolute", 0.0, "expected"),
    "incremental, moving": ("incremental", 0.0, "moving"),
    "relative, moving": ("relative", 0.0, "moving"),
    "relative, expected": ("relative", 0.0, "expected"),
}
SUBSETS = 100


def configured(path, strategy, given):
    """The configuration of one run from a cold start, with one label per class and round."""
    with np.load(path) as file:
        classes = len(np.unique(file["y"]))
    own = [f"rounds={given.rounds}", f"initial_labels={classes}", f"batch_size={classes}"]
    learned = ["strategy_options.policy=learned", f"strategy_options.sharpness={given.sharpness}"]
    (config,) = configurations(
        [path],
        dataset=None,
        strategy=given.strategy,
        seed=0,
        settings=[*SETTINGS, *own, *learned],
        file=None,
    )
    if strategy != given.strategy:
        config = config.model_copy(update={"strategy": strategy, "strategy_options": {}})
    return config


def seeded(config, seed):
    return config.model_copy(update={"seed": seed})


def curves(path, given):
    """Validation Top-1 of the three baselines [3, S, T] on the same validation sets."""
    out = []
    for name in BASELINES:
        config = configured(path, name, given)
        runs = run_all([seeded(config, s) for s in range(given.seeds)])
        out.append([[r.validation.mm.top1 for r in run] for run in runs])
    return np.array(out)


def collect(path, given):
    """Figures of all siblings.

    ``top1`` and ``nll`` on the validation set are [seeds S, siblings G, rounds T]. ``right`` and
    ``retrained``, which test samples each of the two networks classifies correctly, are [S, G, T, test
    samples]. ``labels`` [T] are the numbers of labels, and ``size`` is that of the validation set.
    """
    config = configured(path, given.strategy, given)
    agent, family = agent_of(config), given.siblings
    seeds = [s for s in range(given.seeds) for _ in range(family)]
    together = TrainedTogether.build([seeded(config, s) for s in seeds])
    again = TrainedTogether.build([seeded(config, 1000 + s) for s in seeds])
    for i, learner in enumerate(together.learners):
        learner.use_agent(Collector(agent, np.random.default_rng([0, i])))
    kept, right, retrained = [], [], []
    for _ in range(given.rounds + 1):
        before = [learner.state for learner in together.learners]
        kept.append([o.record for o in together.round()])
        right.append(correct(together))
        for learner, other, state in zip(again.learners, together.learners, before, strict=True):
            learner.continue_from(other)
            learner.state = state
        again._train(again.learners)
        retrained.append(correct(again))
        for i, learner in enumerate(together.learners):
            if i % family:
                learner.continue_from(together.learners[i - i % family])
    shape = (given.seeds, family)

    def stacked(rounds):
        return np.moveaxis(np.array(rounds), 0, 1).reshape(*shape, len(rounds), -1)

    figures = {
        "top1": lambda r: r.validation.mm.top1,
        "nll": lambda r: r.validation.mm.nll,
    }
    found = {k: stacked([[f(r) for r in rs] for rs in kept])[..., 0] for k, f in figures.items()}
    found |= {"right": stacked(right), "retrained": stacked(retrained)}
    labels = np.array([rs[0].labels for rs in kept])
    return found | {"labels": labels, "size": kept[0][0].validation.size}


def correct(together):
    """Which test samples each learner's fused head classifies correctly [K, test samples]."""
    out = []
    for learner in together.learners:
        test = learner.labels.pool.test
        z = np.asarray(learner.model.predict(test).fused_logits)
        out.append(z.argmax(axis=1) == learner.labels.dataset.labels[test])
    return out


def others(x, axis):
    """Return x minus the mean of the other entries along an axis."""
    n = x.shape[axis]
    return (x - x.mean(axis=axis, keepdims=True)) * n / (n - 1)


def other_seeds(x):
    """Return x [S, G, T] minus the mean of the other seeds."""
    mean = x.mean(axis=1, keepdims=True)
    return x - (mean.sum(axis=0) - mean) / (len(x) - 1)


def of_a_run(top1, labels, rule, references):
    """Advantages [S, G, T] by a run's own rewards; a run's history is that of its first siblings."""
    kind, smoothing, baseline = RULES[rule]
    out = np.zeros_like(top1)
    for s, chain in enumerate(top1):
        known = [dict(zip(labels.tolist(), c, strict=True)) for c in references[:, s].tolist()]
        reward = Reward(kind, smoothing, known if kind == "relative" else ())
        compared = Baseline(baseline)
        for t in range(1, len(labels)):
            before = chain[0, t - 1]
            start = reward.at_start(before, int(labels[t - 1]))
            for g in reversed(range(len(chain))):  # the first sibling last: its history continues
                r, b = (copy.deepcopy(x) for x in (reward, compared))
                raw = r.raw(chain[g, t], before, int(labels[t]))
                out[s, g, t] = b.advantage(r.smooth(raw), int(labels[t]), start)
            reward, compared = r, b
    return out


def surprises(right, retrained):
    """The surprises [S, G, T] of each batch. Gains are relative to the first sibling of the last round."""
    t1, t2 = right.mean(axis=-1), retrained.mean(axis=-1)
    past = t1[:, :1]
    gain = t1 - np.concatenate([past[..., :1], past[..., :-1]], axis=-1)
    return {
        "level": other_seeds(t1),
        "gain": other_seeds(gain),
        "batch": others(t1, 1),
        "batch, retrained": others(t2, 1),
    }


def agreement(pairs):
    """Share of equal signs among pairs of arrays, without zeros, and its 95 % interval."""
    a, b = (np.concatenate([np.ravel(x) for x in side]) for side in zip(*pairs, strict=True))
    known = (np.abs(a) > 1e-9) & (np.abs(b) > 1e-9)
    equal, n = int((np.sign(a) == np.sign(b))[known].sum()), int(known.sum())
    if n == 0:
        return None
    interval = binomtest(equal, n).proportion_ci(method="wilson")
    return {
        "share": round(equal / n, 4),
        "n": n,
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
    }


def discordant(a, b, truth):
    """How often only a, and only b, has the sign of the truth, and the p value of the sign test."""
    truth, a, b = (np.concatenate([np.ravel(x) for x in side]) for side in (truth, a, b))
    known = np.abs(truth) > 1e-9
    right = [(np.sign(x) == np.sign(truth))[known] for x in (a, b)]
    only_a, only_b = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    return {
        "only the first": only_a,
        "only the second": only_b,
        "p": float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0,
    }


def limits(found, rng):
    """Pairs of surprises, measured on a part of the test split and on the rest, for many random parts.

    The part has the size of the validation set. Their agreement is what an ideal reward, whose
    expectation is exact, can reach with a validation set of that size.
    """
    right, size = found["right"], found["size"]
    out = {"level": [], "batch": []}
    for _ in range(SUBSETS):
        order = rng.permutation(right.shape[-1])
        part, rest = order[:size], order[size:]
        a, b = (surprises(right[..., i], right[..., i]) for i in (part, rest))
        for kind, pairs in out.items():
            pairs.append((a[kind][..., 2:], b[kind][..., 2:]))
    return out


def advantages_of(found, references):
    """The advantages [S, G, T] of each reward. Without references, relative rewards are left out."""
    top1, labels, nll = found["top1"], found["labels"], found["nll"]
    nothing = np.empty((0, len(top1)))
    made = {
        rule: of_a_run(top1, labels, rule, nothing if references is None else references)
        for rule, (kind, *_) in RULES.items()
        if kind != "relative" or references is not None
    }
    if references is not None:
        made["relative, no baseline"] = top1 - references.mean(axis=0)[:, None, :]
    return made | {
        "absolute NLL, expected": of_a_run(1 - nll, labels, "absolute, expected", nothing),
        "absolute, other seeds": other_seeds(top1),
        "siblings": others(top1, 1),
        "siblings, NLL": -others(nll, 1),
    }


PAIRS = (
    ("siblings, NLL", "siblings"),
    ("siblings, NLL", "absolute NLL, expected"),
    ("absolute NLL, expected", "absolute, expected"),
)


def judged(sets):
    """Tables of agreement over all data sets, from round 2 on."""
    pairs, positive, bounds = {}, {}, {"level": [], "batch": []}
    compared = {pair: ([], [], []) for pair in PAIRS}
    rng = np.random.default_rng(0)
    for found, references in sets:
        surprise = surprises(found["right"], found["retrained"])
        made = advantages_of(found, references)
        for pair, lists in compared.items():
            sides = (*(made[rule] for rule in pair), surprise["batch, retrained"])
            for kept, x in zip(lists, sides, strict=True):
                kept.append(x[..., 2:])
        for rule, a in made.items():
            positive.setdefault(rule, []).append((a[..., 2:], np.ones_like(a[..., 2:])))
            for kind, s in surprise.items():
                pairs.setdefault(rule, {}).setdefault(kind, []).append((a[..., 2:], s[..., 2:]))
        for kind, of in limits(found, rng).items():
            bounds[kind] += of
        same = (surprise["batch"][..., 2:], surprise["batch, retrained"][..., 2:])
        pairs.setdefault("batch on the whole test split", {}).setdefault(
            "batch, retrained", []
        ).append(same)
    table = {r: {k: agreement(p) for k, p in by.items()} for r, by in pairs.items()}
    for rule, p in positive.items():
        table[rule]["positive"] = agreement(p)
    ideal = {k: agreement(p)["share"] for k, p in bounds.items()}
    sign_tests = {" against ".join(pair): discordant(*x) for pair, x in compared.items()}
    return {
        "agreement": table,
        "ideal reward on as many samples": ideal,
        "batch, retrained": sign_tests,
    }


def cached(folder, name, make):
    """Return the arrays that ``make`` returns; with a folder, they are stored there and read again."""
    if folder is None:
        return make()
    file = folder / f"{name}.npz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file, **make())
    with np.load(file) as arrays:
        return dict(arrays)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--strategy", default="rlmba-x")
    parser.add_argument("--sharpness", type=float, default=2.0)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--siblings", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument(
        "--relative",
        nargs="*",
        metavar="NAME",
        help="data sets whose baselines are run for the relative reward; all by default",
    )
    parser.add_argument("--keep", type=Path, help="folder that the figures of the runs are kept in")
    parser.add_argument("--out", type=Path, default=Path("bench/results/reward.json"))
    given = parser.parse_args()
    sets, by_set, size = [], {}, {}
    for path in given.sets:
        name = path.stem
        found = cached(given.keep, name, lambda path=path: collect(path, given))
        found["size"] = int(found["size"])
        references = None
        if given.relative is None or name in given.relative:
            references = cached(
                given.keep, f"{name}-baselines", lambda path=path: {"top1": curves(path, given)}
            )["top1"]
        sets.append((found, references))
        size[name] = found["size"]
        by_set[name] = judged(sets[-1:])
        print(name, size[name], json.dumps(by_set[name], indent=1), flush=True)
    protocol = {k: v for k, v in vars(given).items() if isinstance(v, str | int | float)}
    parts = {"validation samples": size, "all": judged(sets), "by data set": by_set}
    write_results(given.out, protocol=protocol, settings=SETTINGS, **parts)
    print(json.dumps(parts["all"], indent=1))


if __name__ == "__main__":
    main()
