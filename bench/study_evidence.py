"""The paper's strategy with trained evidence: `rlmba` minus `random`, both trained alike.

    python -m bench.study_evidence SET.npz ... [--seeds 6] [--only NAME ...] [--out FILE]

The sets are those of `examples/small_sets.py`. For every training (cross-entropy, and forms of the
evidential loss) and every measure of uncertainty, it compares the area under the budget curve (AUBC), the
mean test accuracy over all rounds, with that of random selection under the same training and seed. All runs
of a training and a set are trained together. Results are added to the output file after each training and
set. Results that the file already contains are not computed again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from bench.common import machine_info
from rlmba.learner import configure, run_together

# Initial labels, batch size and rounds.
BUDGETS = {
    "av_digits": (50, 50, 5),
    "ccv": (200, 200, 5),
    "cub10": (20, 20, 5),
    "utd_mhad": (54, 27, 5),
    "wiki": (100, 100, 5),
}
EXP = {"loss": "evidential", "evidential.evidence": "exp"}
TRAININGS = {
    "cross-entropy": {"loss": "cross-entropy"},
    "exp": EXP,
    "softplus": EXP | {"evidential.evidence": "softplus"},
    "exp, no fused head": EXP | {"evidential.fused_head": False},
    "exp, lambda 0": EXP | {"evidential.kl_weight": 0.0},
    "exp, lambda 1": EXP | {"evidential.kl_weight": 1.0},
    "exp, digamma": EXP | {"evidential.form": "digamma"},
    "relu": EXP | {"evidential.evidence": "relu"},
}
MEASURES = ("variance", "vacuity", "conflict", "vacuity+conflict")


def settings_of(name, training):
    initial, batch, rounds = BUDGETS[name]
    given = {
        "initial_labels": initial,
        "batch_size": batch,
        "rounds": rounds,
        "model.width": 128,
        "training.augment": False,
        "device": "cpu",
    }
    return given | {f"training.{key}": value for key, value in training.items()}


def aubc(result):
    if isinstance(result, Exception):
        raise result
    return float(np.mean([record.test.mm.top1 for record in result.records]))


def study(path, training, seeds):
    """AUBC of each selection, one number per seed."""
    common = {"dataset": "features", "data": path} | settings_of(path.stem, training)
    selections = {"random": {"strategy": "random"}} | {
        measure: {"strategy": "rlmba", "strategy_options": {"uncertainty": measure}}
        for measure in MEASURES
    }
    pairs = [(name, seed) for name in selections for seed in range(seeds)]
    configs = [configure(common | selections[name] | {"seed": seed}) for name, seed in pairs]
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / str(k) for k in range(len(configs))]
        results = run_together(configs, outputs)
    found = {name: [0.0] * seeds for name in selections}
    for (name, seed), result in zip(pairs, results, strict=True):
        found[name][seed] = aubc(result)
    return found


def table(results):
    """Markdown: AUBC of random, and of each measure minus it, with its standard error over seeds."""
    rows = ["| training | set | random | " + " | ".join(MEASURES) + " |"]
    rows.append("|" + "---|" * (3 + len(MEASURES)))
    for training, sets in results.items():
        for name, found in sets.items():
            random = np.array(found["random"])
            gains = [np.array(found[m]) - random for m in MEASURES]
            cells = [f"{g.mean():+.4f} ± {g.std(ddof=1) / len(g) ** 0.5:.4f}" for g in gains]
            rows.append(f"| {training} | {name} | {random.mean():.4f} | {' | '.join(cells)} |")
        every = [
            np.mean([np.mean(s[m]) - np.mean(s["random"]) for s in sets.values()]) for m in MEASURES
        ]
        means = " | ".join(f"{x:+.4f}" for x in every)
        level = np.mean([np.mean(s["random"]) for s in sets.values()])
        rows.append(f"| {training} | mean of {len(sets)} | {level:.4f} | {means} |")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--only", nargs="+", choices=TRAININGS, default=list(TRAININGS))
    parser.add_argument("--out", type=Path, default=Path("bench/results/evidence.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    protocol = {"seeds": given.seeds, "budgets": BUDGETS}
    stored = json.loads(given.out.read_text()) if given.out.exists() else {"results": {}}
    results = stored["results"]
    for training in given.only:
        for path in given.sets:
            if path.stem in results.setdefault(training, {}):
                continue
            results[training][path.stem] = study(path, TRAININGS[training], given.seeds)
            given.out.write_text(
                json.dumps({"machine": machine_info(), **protocol, "results": results}, indent=1)
                + "\n"
            )
            print(table({training: results[training]}), flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
