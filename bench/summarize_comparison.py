"""Summarize comparisons: mean accuracy of each strategy, and how far one strategy is ahead of the others.

    python -m bench.summarize_comparison COMPARISON ... [--of rlmba-h] [--out SUMMARY.json]

Prints one Markdown table for each folder of `rlmba compare`, fusion and predictor. AUBC is the mean test
Top-1 over rounds. A difference is the paired difference, averaged over seeds and then over data sets. p is
that of a two-sided t test over all pairs of data set and seed; "p of sets" is that of the same test over
the means of the data sets. p values are not corrected for the number of strategies. Strategies that lack
runs on a data set are left out.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.stats import rankdata, ttest_1samp

from rlmba.experiments.find_runs import find_runs, read_groups


def collect(folder):
    """AUBC [seeds] by (fusion, predictor), data set and strategy."""
    found = defaultdict(lambda: defaultdict(dict))
    for group in read_groups(find_runs([folder]).runs):
        aubc = dict(zip(group.seeds, group.aubc, strict=True))
        of = group.fusion, group.predictor
        found[of][group.dataset.removeprefix("features:")][group.strategy] = aubc
    return found


def compare(sets, of):
    """Rows of one table, best mean first."""
    names = set.intersection(*(set(s) for s in sets.values()))
    seeds = {d: sorted(set.intersection(*(set(s[n]) for n in names))) for d, s in sets.items()}
    values = {n: {d: np.array([s[n][k] for k in seeds[d]]) for d, s in sets.items()} for n in names}
    means = {n: {d: float(x.mean()) for d, x in v.items()} for n, v in values.items()}
    ranks = np.mean([rankdata([-means[n][d] for n in names]) for d in sets], axis=0)
    rank = dict(zip(names, ranks.tolist(), strict=True))
    rows = []
    for name in sorted(names, key=lambda n: -np.mean(list(means[n].values()))):
        row = {
            "strategy": name,
            "sets": means[name],
            "mean": float(np.mean(list(means[name].values()))),
            "rank": rank[name],
        }
        if of in names and name != of:
            by_set = [values[of][d] - values[name][d] for d in sets]
            row["difference"] = float(np.mean([x.mean() for x in by_set]))
            row["p"] = float(ttest_1samp(np.concatenate(by_set), 0).pvalue)
            row["p_sets"] = float(ttest_1samp([x.mean() for x in by_set], 0).pvalue)
            row["ahead"] = sum(bool(x.mean() > 0) for x in by_set)
        rows.append(row)
    return {"seeds": {d: len(k) for d, k in seeds.items()}, "rows": rows}


def markdown(table, of):
    sets = list(table["rows"][0]["sets"])
    head = ["strategy", *sets, "mean", "rank", f"`{of}` minus it", "p", "p of sets", "ahead on"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for row in table["rows"]:
        cells = [f"`{row['strategy']}`", *(f"{row['sets'][d]:.4f}" for d in sets)]
        cells += [f"{row['mean']:.4f}", f"{row['rank']:.1f}"]
        if "p" in row:
            cells += [f"{row['difference']:+.4f}", f"{row['p']:.1g}", f"{row['p_sets']:.2g}"]
            cells += [f"{row['ahead']}/{len(sets)}"]
        else:
            cells += [""] * 4
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--of", default="rlmba-h")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    results = {}
    for folder in given.folders:
        for (fusion, predictor), sets in collect(folder).items():
            table = compare(sets, given.of)
            results[f"{folder.name}, {fusion}, {predictor}"] = table
            print(
                f"\n{folder.name}, fusion {fusion}, predictor {predictor}, seeds {table['seeds']}\n"
            )
            print(markdown(table, given.of))
    if given.out:
        given.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
