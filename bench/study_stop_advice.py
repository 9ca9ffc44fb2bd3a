"""The quality of `rlmba.project.advice` on real learning curves, compared with simpler rules.

    python bench/study_stop_advice.py [--seeds 8]

Reads docs/results/validation.csv (the numbers of correct validation samples in 1,760 runs on five data
sets, one row per run) and docs/results/curves.csv (their test curves, averaged over seeds). After each
round of a run, the gain of the next batch is predicted from the validation set alone, and compared with
the gain on the test split, averaged over seeds.
Writes bench/results/stop_advice.json and .md.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares
from sklearn.isotonic import IsotonicRegression

from rlmba.project.advice import THRESHOLD, advise

ROOT = Path(__file__).parents[1]
Z = 1.2815515655446004  # of an 80 % interval
# In all seeds its curve drops by up to 12 points at 135 and 270 labels (last minibatches of 7 and 14). The
# last round is one of these, so the gain from stopping before it is not informative.
JUMPS = ("utd_mhad",)
ROUNDS = {"1": (1, 1), "2": (2, 2), "3": (3, 3), "4-5": (4, 5), "6 or more": (6, 99)}


def runs(seeds):
    truth = defaultdict(dict)
    with (ROOT / "docs/results/curves.csv").open(encoding="utf-8") as file:
        for r in csv.DictReader(file):
            if (r["quantity"], r["name"], r["on"]) == ("top1", "mm", "test"):
                key = r["dataset"], r["strategy"], r["fusion"], r["predictor"]
                truth[key][int(r["labels"])] = float(r["mean"])
    found = []
    with (ROOT / "docs/results/validation.csv").open(encoding="utf-8") as file:
        for r in csv.DictReader(file):
            if int(r["seed"]) >= seeds:
                continue
            right = np.array(r["right"].split(), int)
            labels = int(r["first"]) + int(r["batch"]) * np.arange(len(right))
            test = truth[r["dataset"], r["strategy"], r["fusion"], r["predictor"]]
            size = np.full(len(right), int(r["size"]))
            name = r["dataset"].partition(":")[2]
            found.append((name, labels, right, size, np.array([test[n] for n in labels])))
    return found


def slope(p, n, v, b):
    gain = (p[-1] - p[-2]) * b / (n[-1] - n[-2])
    q = np.clip(p[-2:], 0.5 / v[-2:], 1 - 0.5 / v[-2:])
    deviation = np.sqrt((q * (1 - q) / v[-2:]).sum())
    return gain, gain - Z * deviation, gain + Z * deviation


def last_slope(n, k, v, b):
    return slope(k / v, n, v, b)


def isotonic(n, k, v, b):
    return slope(IsotonicRegression().fit_transform(n, k / v, sample_weight=v), n, v, b)


def log_linear(n, k, v, b):
    p = (k + 0.5) / (v + 1)
    w, x = v / (p * (1 - p)), np.log(n)
    x = x - (w * x).sum() / w.sum()
    steps, spread = np.log1p(b / n[-1]), (w * x**2).sum()
    gain = steps * (w * x * p).sum() / spread
    return gain, gain - Z * steps / np.sqrt(spread), gain + Z * steps / np.sqrt(spread)


def least_squares_law(n, k, v, b):
    """A single power law, without an interval."""
    if len(n) < 3:
        return log_linear(n, k, v, b)
    p = (k + 0.5) / (v + 1)

    def law(t, x):
        return 1 - t[0] * (t[1] + (1 - t[1]) * (x / n[0]) ** -t[2])

    start = [np.clip(1 - p[0], 0.02, 0.98), 0.3, 0.7]
    bounds = ([0, 0, 0.05], [1, 1, 3])
    fit = least_squares(
        lambda t: (law(t, n) - p) * np.sqrt(v / (p * (1 - p))), start, bounds=bounds
    )
    gain = law(fit.x, n[-1] + b) - law(fit.x, n[-1])
    return gain, np.nan, np.nan


SIMPLE = {
    "last slope": last_slope,
    "isotonic, last slope": isotonic,
    "log-linear": log_linear,
    "power law, least squares": least_squares_law,
}


def foretell(found, simple=tuple(SIMPLE)):
    """Rows (set, run, rounds seen, method, gain, low, high, trend, real gain)."""
    rows = []
    for i, (name, n, k, v, test) in enumerate(found):
        b = int(n[1] - n[0])
        for t in range(1, len(n)):
            seen, real = (n[:t].astype(float), k[:t], v[:t]), test[t] - test[t - 1]
            a = advise(*seen, batch=b)
            rows.append((name, i, t, "advise", a.gain, a.low, a.high, a.trend, real))
            rows.append((name, i, t, "no gain", 0.0, np.nan, np.nan, 0.0, real))
            for method in simple:
                gain, low, high = SIMPLE[method](*seen, b) if t > 1 else (np.nan,) * 3
                rows.append((name, i, t, method, gain, low, high, gain, real))
    return rows


def quality(rows):
    """Mean absolute error, bias (points), coverage and width of the 80 % interval."""
    x = np.array([r[4:] for r in rows])
    error, inside = x[:, 0] - x[:, 4], (x[:, 1] <= x[:, 4]) & (x[:, 4] <= x[:, 2])
    has = bool(np.isfinite(x[:, 1]).all())
    return {
        "error": round(100 * float(np.abs(error).mean()), 2),
        "bias": round(100 * float(error.mean()), 2),
        "coverage": round(float(inside.mean()), 2) if has else None,
        "width": round(100 * float((x[:, 2] - x[:, 1]).mean()), 1) if has else None,
    }


def stopping(found, rows, without=()):
    """Labels saved (percent) and accuracy lost (points) by stopping as soon as a rule says so."""
    kept = [i for i, r in enumerate(found) if r[0] not in without]
    told = {(i, t, m): (gain, high, trend) for _, i, t, m, gain, _, high, trend, _ in rows}

    def first(rule):
        return [
            next((t for t in range(3, len(found[i][1])) if rule(i, t)), len(found[i][1]))
            for i in kept
        ]

    def outcome(at):
        of = [found[i] for i in kept]
        saved = [1 - r[1][t - 1] / r[1][-1] for r, t in zip(of, at, strict=True)]
        lost = [r[-1][-1] - r[-1][t - 1] for r, t in zip(of, at, strict=True)]
        by_set = defaultdict(list)
        for (name, *_), s, x in zip(of, saved, lost, strict=True):
            by_set[name].append((s, x))
        return {
            "saved": round(100 * float(np.mean(saved)), 1),
            "lost": round(100 * float(np.mean(lost)), 2),
            "stopped": round(float(np.mean([s > 0 for s in saved])), 2),
            "sets": {
                name: [round(100 * float(c), 2) for c in np.mean(x, axis=0)]
                for name, x in sorted(by_set.items())
            },
        }

    def unimproved(i, t):
        right = found[i][2]
        return bool(right[t - 2 : t].max() <= right[: t - 2].max())

    rules = {"V no better for two rounds": unimproved}
    for x in (THRESHOLD / 2, THRESHOLD, 2 * THRESHOLD):
        for label, method, which in (
            ("trend (advise)", "advise", 2),
            ("expected gain", "advise", 0),
            ("high", "advise", 1),
            ("last slope", "last slope", 0),
        ):
            rules[f"{label} below {x:g}"] = (
                lambda i, t, m=method, w=which, x=x: (
                    told[i, t, m][w] < x
                )  # bound now, not at the call
            )
    table = {name: outcome(first(rule)) for name, rule in rules.items()}
    # The same savings without advice: each run stops after the same fraction of its rounds.
    shares = np.linspace(0, 1, 101)
    blind = [
        outcome([round(len(found[i][1]) - s * (len(found[i][1]) - 3)) for i in kept])
        for s in shares
    ]
    saved, lost = [o["saved"] for o in blind], [o["lost"] for o in blind]
    for entry in table.values():
        entry["blind"] = round(float(np.interp(entry["saved"], saved, lost)), 2)
    return table


def study(seeds):
    found = runs(seeds)
    rows = foretell(found)
    methods = list(dict.fromkeys(r[3] for r in rows))
    sets = sorted({r[0] for r in rows})
    small = [
        (name, n, np.random.default_rng(i).hypergeometric(k, v - k, 20), np.full(len(n), 20), test)
        for i, (name, n, k, v, test) in enumerate(found)
    ]
    small_rows = [r for r in foretell(small, ("last slope",)) if r[3] in ("advise", "last slope")]
    calm = [r for r in rows if r[0] not in JUMPS]
    return {
        "runs": len(found),
        "V": {name: int(v[0]) for name, _, _, v, _ in found},
        "by_rounds": by_rounds(rows, methods),
        "by_rounds_without_jumps": by_rounds(calm, methods),
        "by_rounds_V_of_20": by_rounds(small_rows, ["advise"]),
        "by_set_from_round_3": {
            m: {
                s: quality([r for r in rows if r[3] == m and r[0] == s and r[2] >= 3]) for s in sets
            }
            for m in methods
        },
        "stopping": stopping(found, rows),
        "stopping_without_jumps": stopping(found, rows, JUMPS),
        "stopping_V_of_20": stopping(small, small_rows, JUMPS),
    }


def by_rounds(rows, methods):
    """Quality by method and number of rounds seen; a slope needs two."""
    return {
        m: {
            label: quality([r for r in rows if r[3] == m and first <= r[2] <= last])
            for label, (first, last) in ROUNDS.items()
            if m in ("advise", "no gain") or label != "1"
        }
        for m in methods
    }


def cell(q):
    return f"{q['error']:.2f}" + ("" if q["coverage"] is None else f" / {q['coverage']:.2f}")


def table(head, body):
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *body]
    return "\n".join("| " + " | ".join(str(c) for c in line) + " |" for line in lines)


def rounds_table(quality):
    return table(
        ["method", *ROUNDS],
        [[m, *(cell(q[r]) if r in q else "" for r in ROUNDS)] for m, q in quality.items()],
    )


def page(result):
    sets = result["by_set_from_round_3"]
    first = next(iter(sets.values()))
    parts = [
        "# Foretelling the gain of another batch\n",
        f"{result['runs']} runs on five sets, after each of their rounds, from V alone, against the",
        "gain of the test curve that is the mean of 8 seeds. Mean absolute error in points / coverage of the",
        "80 % interval. Made by `bench/study_stop_advice.py`.\n",
        "## By rounds seen, without utd_mhad\n",
        rounds_table(result["by_rounds_without_jumps"]),
        "\n## By rounds seen, all sets\n",
        rounds_table(result["by_rounds"]),
        "\n## By rounds seen, V of 20, all sets\n",
        "Of every V 20 samples, others each round: noisier than one V of 20 would be.\n",
        rounds_table(result["by_rounds_V_of_20"]),
        "\n## By set, three rounds or more\n",
        table(
            ["method", *(f"{s} (V {result['V'][s]})" for s in first)],
            [[m, *(cell(q) for q in by.values())] for m, by in sets.items()],
        ),
    ]
    for title, key in (
        ("Stopping, without utd_mhad", "stopping_without_jumps"),
        ("Stopping, V of 20, without utd_mhad", "stopping_V_of_20"),
        ("Stopping, all sets", "stopping"),
    ):
        parts += [
            f"\n## {title}\n",
            "From the third round on. Labels saved (%), Top-1 lost against the last round (points), what is",
            "lost where all runs stop after the same share of their rounds and save as much, and the share",
            "of runs that stopped.\n",
            table(
                ["rule", "saved", "lost", "lost blindly", "stopped"],
                [
                    [n, o["saved"], o["lost"], o["blind"], o["stopped"]]
                    for n, o in result[key].items()
                ],
            ),
        ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seeds", type=int, default=8, help="of each configuration, for a quick look"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results" / "stop_advice")
    given = parser.parse_args()
    result = study(given.seeds)
    given.output.with_suffix(".json").write_text(
        json.dumps(result, indent=1) + "\n", encoding="utf-8"
    )
    given.output.with_suffix(".md").write_text(page(result), encoding="utf-8")
    print(page(result))
