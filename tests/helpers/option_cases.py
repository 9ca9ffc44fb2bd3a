"""What every option of every strategy does, as the inherited contract tests it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlmba import strategies


@dataclass(frozen=True)
class OptionCase:
    """A value other than the default, and whether it changes the answers.

    A callable ``value`` makes the value of a strategy's name and an empty folder. ``under`` are further
    options, with which the value is compared to the default.
    """

    value: Any
    changes: bool = True
    under: Mapping[str, Any] = field(default_factory=dict)


def trained_policy(name: str, folder: Path) -> str:
    agent = strategies.create(name, policy="learned").agent
    torch.nn.init.normal_(
        agent.policy.network.last.weight, std=9, generator=torch.Generator().manual_seed(1)
    )
    agent.save(folder / "policy.safetensors", strategy=name, facts={})
    return str(folder / "policy.safetensors")


def of_the_policy(under: Mapping[str, Any], without: str) -> dict[str, list[OptionCase]]:
    """Cases of the options that only a learned policy reads; ``without`` is a rule that has none."""
    values = {
        "explore": False,
        "sharpness": 0.3,
        "hidden": 8,
        "learning_rate": 0.5,
        "seed": 3,
        "baseline": "moving",
        "baseline_momentum": 0.4,
        "advantage_clip": 0.01,
    }
    rule = {"policy": without}
    cases = {k: [OptionCase(v, under=under), OptionCase(v, False, rule)] for k, v in values.items()}
    return cases | {"policy_file": [OptionCase(trained_policy, under=under)]}


OF_TYPICLUST: Mapping[str, Sequence[OptionCase]] = {
    "space": [OptionCase("input")],
    "max_clusters": [OptionCase(3)],
    "min_cluster_size": [OptionCase(0)],
    "neighbors": [OptionCase(1)],
}

OPTION_CASES: Mapping[str, Mapping[str, Sequence[OptionCase]]] = {
    "rlmba": {
        "beta": [OptionCase(0.0), OptionCase(0.0, False, {"diversity": False})],
        "kappa": [OptionCase(2), OptionCase(2, False, {"policy": "greedy"})],
        "lloyd_steps": [OptionCase(0), OptionCase(0, False, {"diversity": False})],
        "evidence": [
            OptionCase("exp"),
            OptionCase("relu"),
            OptionCase("exp", False, {"efda": False}),
        ],
        "uncertainty": [
            OptionCase("vacuity"),
            OptionCase("conflict"),
            OptionCase("vacuity+conflict"),
        ],
        "efda": [OptionCase(False)],
        "diversity": [OptionCase(False)],
        "policy": [OptionCase("greedy"), OptionCase("uniform")],
        **of_the_policy({}, "greedy"),
    },
    "rlmba-x": {
        "kappa": [OptionCase(2)],
        "lloyd_steps": [OptionCase(0)],
        "policy": [OptionCase("learned"), OptionCase("learned", False, {"explore": False})],
        **of_the_policy({"policy": "learned"}, "none"),
    },
    "rlmba-h": {
        "space": [OptionCase("modality"), OptionCase("fused")],
        "radius": [OptionCase("nearest-labeled"), OptionCase(0.4)],
        "uncertainty": [OptionCase("none"), OptionCase("entropy")],
        "weights": [OptionCase("uniform"), OptionCase("uniform", False, {"space": "fused"})],
        "trust": [OptionCase(0.4), OptionCase(0.6, False)],
        "kappa": [OptionCase(2, under={"policy": "learned"}), OptionCase(2, False)],
        "policy": [OptionCase("learned"), OptionCase("learned", False, {"explore": False})],
        **of_the_policy({"policy": "learned"}, "none"),
    },
    "bald": {"passes": [OptionCase(3)]},
    "typiclust": OF_TYPICLUST,
    "tcm": {**OF_TYPICLUST, "labels_per_class": [OptionCase(1.0)]},
    "maxherding": {"space": [OptionCase("input")], "radius": [OptionCase(0.2)]},
    "uherding": {
        "uncertainty": [OptionCase("entropy"), OptionCase("confidence")],
        "temperature": [OptionCase(3.0)],
    },
    "probcover": {
        "space": [OptionCase("input")],
        "delta": [OptionCase(0.3)],
        "purity": [OptionCase(0.5), OptionCase(0.5, False, {"delta": 0.3})],
    },
    "dropquery": {"passes": [OptionCase(9)], "dropout": [OptionCase(0.1)]},
    "alfa-mix": {"step": [OptionCase(1.0)]},
    "gcnal": {
        "variant": [OptionCase("uncertain")],
        "embedding": [OptionCase("hidden"), OptionCase("hidden", False, {"variant": "uncertain"})],
        "margin": [OptionCase(0.5, under={"variant": "uncertain"}), OptionCase(0.5, False)],
        "epochs": [OptionCase(3)],
        "hidden": [OptionCase(16)],
        "dropout": [OptionCase(0.0)],
        "learning_rate": [OptionCase(1e-2)],
        "weight_decay": [OptionCase(0.1)],
        "unlabeled_weight": [OptionCase(3.0)],
        "affinity": [OptionCase("cosine"), OptionCase("shifted", False)],
    },
}


def check_options(
    name: str,
    cases: Mapping[str, Sequence[OptionCase]],
    answers: Callable[[strategies.Strategy], list[Any]],
    folder: Path,
) -> None:
    """Assert that a strategy's options are exactly those with cases, and do what these declare."""
    defaults = strategies.options(name)
    assert set(cases) == set(defaults), (
        f"strategy {name!r}: expected a case in option_cases for each of its options"
    )
    known: dict[str, list[Any]] = {}
    for option, registered in cases.items():
        assert any(case.changes for case in registered), (
            f"{name}.{option}: no case changes anything"
        )
        for case in registered:
            value = case.value(name, folder) if callable(case.value) else case.value
            assert value != defaults[option], f"{name}.{option}: {value!r} is the default"
            under = {k: v for k, v in case.under.items() if k != option}
            if (key := repr(sorted(under.items()))) not in known:
                known[key] = answers(strategies.create(name, **under))
            found = answers(strategies.create(name, **{**under, option: value}))
            changed = not _equal(known[key], found)
            assert changed == case.changes, (
                f"{name}.{option}={value!r} with {under or 'defaults'}: expected "
                f"{'other' if case.changes else 'the same'} answers"
            )


def _equal(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(map(np.array_equal, a, b))
