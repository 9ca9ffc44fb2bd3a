"""Strategies of other packages: what is wrong with one is said of it, and stops nothing else."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import rlmba
from rlmba import strategies
from rlmba.cli import main
from rlmba.errors import PluginError, RlmbaWarning, UsageError
from tests.helpers.contract import make_context, make_pool

CODE = """
from dataclasses import dataclass
import numpy as np
from rlmba.strategies import Choice, Strategy

@dataclass(kw_only=True)
class Fine(Strategy):
    name = "fine"
    summary = "Takes the first."
    answer: str = "np.arange(n)"
    scores: str = "np.ones(n)"

    def __post_init__(self):
        if self.answer == "bad":
            raise KeyError("bad")

    def choose(self, pool, context, n, stages):
        return Choice(eval(self.answer), eval(self.scores))

@dataclass(kw_only=True)
class Nothing(Fine):
    name = "nothing"

    def choose(self, pool, context, n, stages):
        return None

@dataclass(kw_only=True)
class Forgets(Fine):
    name = "forgets"
    fails: str = "learn"

    def learn(self, feedback):
        return 1 / (self.fails != "learn")

    def state_dict(self):
        return {"x": 1 / (self.fails != "state_dict")}

class Unrelated:
    pass

class Nameless(Strategy):
    def choose(self, pool, context, n, stages):
        return None

def function(*args):
    raise SystemExit("called")
"""
POINTS = """
[rlmba.strategies]
fine = odd_strategies:Fine
nothing = odd_strategies:Nothing
forgets = odd_strategies:Forgets
unrelated = odd_strategies:Unrelated
nameless = odd_strategies:Nameless
function = odd_strategies:function
gone = odd_strategies:Gone
no-module = odd_nowhere:Gone
raising = odd_raising:Fine
leaving = odd_leaving:Fine
unwritten = odd strategies
random = odd_strategies:Fine
"""
BROKEN = {
    "unrelated": "expected a class derived from rlmba.strategies.Strategy, found one that is derived",
    "nameless": "expected a dataclass with a name and a summary, found one without name",
    "function": "derived from rlmba.strategies.Strategy, found an object of the type function",
    "gone": "found none: module 'odd_strategies' has no attribute 'Gone'",
    "no-module": "found no module 'odd_nowhere'",
    "raising": "importing the module odd_raising raised ZeroDivisionError",
    "leaving": "importing the module odd_leaving raised SystemExit: 3",
    "unwritten": "written as module:Class",
}


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    (tmp_path / "odd_strategies.py").write_text(CODE)
    (tmp_path / "odd_raising.py").write_text("1 / 0")
    (tmp_path / "odd_leaving.py").write_text("raise SystemExit(3)")
    info = tmp_path / "odd_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    (info / "top_level.txt").write_text("odd_strategies\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [n for n in sys.modules if n.startswith("odd_")]:
        del sys.modules[name]


def chosen(n=4, **options):
    pool = make_pool(n=20)
    return strategies.create("fine", **options).query(pool, make_context(pool), n)


def test_one_that_keeps_the_contract():
    assert chosen().positions.tolist() == [0, 1, 2, 3]
    assert chosen(answer="[3, 1, 0, 2]", scores="[1, 2, 3, 4]").positions.tolist() == [3, 1, 0, 2]
    assert strategies.options("fine") == {"answer": "np.arange(n)", "scores": "np.ones(n)"}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_one_is_named_with_its_package(name):
    with pytest.raises(UsageError, match=r"of the package 'odd-package'") as caught:
        strategies.create(name)
    assert BROKEN[name] in str(caught.value)


def test_a_package_with_damaged_metadata_is_left_out(tmp_path):
    info = tmp_path / "damaged-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: damaged\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rlmba.strategies]\nno equals sign\n")
    with pytest.warns(RlmbaWarning, match=r"damaged-1.0.dist-info is left out.*install it"):
        assert {"random", "fine"} < set(strategies.names())


def test_broken_ones_are_listed_and_stop_nothing(capsys):
    assert main(["strategies"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, reason in BROKEN.items():
        (line,) = [x for x in lines if x.startswith(f"{name}: ")]
        assert line.startswith(f"{name}: cannot be used: strategy ")
        assert reason in line
    assert "fine: Takes the first." in lines
    assert set(BROKEN) < set(strategies.names())
    assert any(x.startswith("random: ") and "first" not in x for x in lines)
    assert "rlmba-evidential: rlmba with other settings of the run" in lines
    assert "    training.loss = evidential" in lines


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"answer": "np.arange(n - 1)"}, r"shape \(3,\) with 3 distinct"),
        ({"answer": "np.zeros(n, int)"}, r"shape \(4,\) with 1 distinct"),
        ({"answer": "np.arange(n) * 1.0"}, "type float64"),
        ({"answer": "np.arange(20) < n"}, "type bool"),
        ({"answer": "list('abcd')"}, "type <U1"),
        ({"answer": "np.arange(n) + 17"}, r"within 17\.\.20"),
        ({"answer": "-np.arange(n)"}, r"within -3\.\.0"),
        ({"answer": "np.arange(n).reshape(2, 2)"}, r"shape \(2, 2\)"),
        ({"answer": "None"}, "it returned Choice"),
        ({"scores": "np.ones(n + 1)"}, r"scores of shape \(5,\)"),
        ({"scores": "['a'] * n"}, "scores of shape .* and type <U1"),
        ({"scores": "np.full(n, np.nan)"}, "scores that are NaN"),
    ],
)
@pytest.mark.slow
def test_what_breaks_the_contract_is_said_of_the_package(options, found):
    with pytest.raises(PluginError, match=found) as caught:
        chosen(**options)
    assert "strategy 'fine', from the package 'odd-package', broke its contract: " in str(
        caught.value
    )
    assert "expected 4 distinct integers within 0..19 and 4 scores" in str(caught.value)


def test_what_it_raises_is_said_of_the_package(tmp_path, capsys):
    with pytest.raises(
        PluginError, match=r"'fine', from the package 'odd-package', raised ZeroDiv"
    ):
        chosen(answer="1 / 0")
    with pytest.raises(
        PluginError, match="'fine', from the package 'odd-package', raised KeyError"
    ):
        strategies.create("fine", answer="bad")
    with pytest.raises(PluginError, match="it returned None"):
        rlmba.select("nothing", logits=np.eye(3), features=np.eye(3), n=1)
    np.savez(tmp_path / "pool.npz", logits=np.eye(3), features=np.eye(3))
    files = ["--pool", str(tmp_path / "pool.npz"), "--out", str(tmp_path / "batch.csv")]
    code = main(["select", "--strategy", "nothing", *files, "-n", "1"])
    said = capsys.readouterr().err
    assert (code, "odd-package" in said, "bug in rlmba" in said) == (1, True, False)


def test_memory_is_not_the_packages_fault(capsys):
    with pytest.raises(MemoryError):
        chosen(answer="(_ for _ in ()).throw(MemoryError())")
    from rlmba.cli import failures

    with pytest.raises(PluginError) as caught:
        chosen(answer="""(_ for _ in ()).throw(RuntimeError("can't allocate memory"))""")
    assert failures.describe(caught.value, []).message.startswith("error: out of memory")


@pytest.mark.parametrize("fails", ["learn", "state_dict"])
def test_what_it_raises_in_a_run_is_said_of_the_package(fails, tmp_path):
    from rlmba.learner import configure, run

    options = {"strategy": "forgets", "strategy_options.fails": fails, "rounds": 1, "device": "cpu"}
    config = configure({**options, "epochs": 1, "training.min_steps": 1, "model.width": 8})
    with pytest.raises(
        PluginError, match=r"'forgets', from the package 'odd-package', raised Zero"
    ):
        run(config, tmp_path / "run")
