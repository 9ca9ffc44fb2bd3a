"""Whether drawn sequences follow a law: shared by the tests of the operations that draw by D^2."""

from __future__ import annotations

from scipy import stats


def law_p_value(law, draw, repeats):
    counts = dict.fromkeys(law, 0)
    for seed in range(repeats):
        counts[tuple(draw(seed))] += 1
    possible = [s for s in law if law[s] > 0]
    assert sum(counts[s] for s in possible) == repeats
    # Sequences too rare for the chi-square approximation are taken together.
    common = [s for s in possible if law[s] * repeats >= 5]
    rare = set(possible) - set(common)
    observed = [counts[s] for s in common]
    expected = [law[s] * repeats for s in common]
    if rare:
        observed.append(sum(counts[s] for s in rare))
        expected.append(sum(law[s] for s in rare) * repeats)
    return stats.chisquare(observed, expected).pvalue
