"""The inherited contract fails where an option is not tested, of this package's strategies and others'."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from rlmba import strategies
from rlmba.strategies import Choice, Strategy
from rlmba.strategies.registry import _BUILT_IN
from tests.helpers.contract import StrategyContract
from tests.helpers.option_cases import OPTION_CASES, OptionCase


@dataclass(kw_only=True)
class Offset(Strategy):
    name = "offset"
    summary = "Takes samples from a place on."
    start: int = 0
    unread: int = 0

    def choose(self, pool, context, n, stages):
        return Choice(np.arange(n) + self.start, np.ones(n))


START = {"start": [OptionCase(2)]}


def check(cases, folder, monkeypatch):
    contract = type("Checked", (StrategyContract,), {"name": __name__ + ":Offset"})()
    monkeypatch.setattr(contract, "option_cases", cases, raising=False)
    contract.test_every_option_does_what_is_declared(folder)


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        (START, "expected a case in option_cases for each of its options"),
        (START | {"unread": [OptionCase(1)]}, "unread=1 with defaults: expected other answers"),
        (START | {"unread": [OptionCase(1, False)]}, "unread: no case changes anything"),
        ({"start": [OptionCase(0)], "unread": []}, "start: 0 is the default"),
        (
            {"start": [OptionCase(2), OptionCase(1, False)], "unread": []},
            "start=1 with defaults: expected the same answers",
        ),
    ],
)
def test_an_untested_option_fails_the_contract(cases, said, tmp_path, monkeypatch):
    with pytest.raises(AssertionError, match=said):
        check(cases, tmp_path, monkeypatch)


def test_every_built_in_strategy_with_options_has_cases():
    assert {n for n in _BUILT_IN if strategies.options(n)} == set(OPTION_CASES)
