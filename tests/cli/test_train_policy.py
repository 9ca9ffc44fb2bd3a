"""`rlmba train-policy` and `rlmba run --policy`, as they are typed."""

from __future__ import annotations

import numpy as np
import pytest

from rlmba.cli import main
from rlmba.learner import read_run
from rlmba.method.policy_file import read_policy

TINY = [
    argument
    for setting in (
        "rounds=1",
        "batch_size=6",
        "initial_labels=8",
        "epochs=1",
        "model.width=8",
        "device=cpu",
        "validation_fraction=0.2",
    )
    for argument in ("--set", setting)
]

MOVING = ("--baseline", "moving")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    for i, classes in enumerate((2, 3)):
        rng = np.random.default_rng(i)
        y = np.arange(100) % classes
        a = (rng.normal(size=(100, 5)) + 1.5 * np.eye(classes, 5)[y]).astype(np.float32)
        np.savez(
            folder / f"set{i}.npz",
            a=a,
            b=a[:, :4] * 0.5,
            y=y,
            split=y * 0 + (rng.random(100) < 0.2),
        )
    return [folder / "set0.npz", folder / "set1.npz"]


@pytest.fixture(scope="module")
def policy(sets, tmp_path_factory):
    output = tmp_path_factory.mktemp("trained") / "t"
    assert train(sets, *MOVING, "--episodes", "4", "--parallel", "2", "--output", output) == 0
    return output / "policy.safetensors"


def train(sets, *arguments):
    data = [argument for path in sets for argument in ("--data", path)]
    return main([str(a) for a in ("train-policy", *data, *TINY, *arguments)])


def use(path, output, *arguments):
    command = ("run", "--dataset", "features", *TINY, "--policy", path, "--output", output)
    return main([str(a) for a in (*command, *arguments)])


@pytest.mark.slow
def test_train_use_and_go_on(sets, policy, tmp_path, capsys):
    assert read_policy(policy, strategy="rlmba-x").facts["tasks"] == ["set0", "set1"]
    again = (*MOVING, "--episodes", "6", "--parallel", "2", "--output", policy.parent, "--resume")
    assert train(sets, *again) == 0
    told = capsys.readouterr()
    assert told.out == f"{policy}\n"
    steps = [line for line in told.err.splitlines() if line.startswith("episodes ")]
    assert [line.split()[1] for line in steps] == ["6"]
    assert use(policy, tmp_path / "r", "--data", sets[1], "--strategy", "rlmba-x") == 0
    config = read_run(tmp_path / "r").config
    assert config.strategy_options["policy_file"] == str(policy)
    assert config.strategy_options["explore"] is False
    assert config.strategy_options["policy"] == "learned"
    # Single options override the flag.
    explored = ("--set", "strategy_options.explore=true")
    assert use(policy, tmp_path / "e", "--data", sets[1], "--strategy", "rlmba-x", *explored) == 0
    assert read_run(tmp_path / "e").records[1].policy["baseline"] >= 0


@pytest.mark.slow
def test_leave_one_out_prints_paired_differences(sets, tmp_path, capsys):
    flags = ("--leave-one-out", "--episodes", "4", "--eval-seeds", "2")
    assert train(sets, *flags, "--output", tmp_path / "o") == 0
    told = capsys.readouterr()
    assert "without set0: episodes     8" in told.err
    printed = " ".join(told.out.split())
    assert all(word in printed for word in ("set0", "set1", "all", "difference", "paired t test"))
    assert (tmp_path / "o" / "set1.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategy", "badge"], "expected one that has a policy (rlmba, rlmba-x, rlmba-h)"),
        ([*MOVING, "--parallel", "3"], "multiple of 2 (2 data sets x 1 siblings), got 3"),
        (
            ["--parallel", "12"],
            "multiple of 8 (2 data sets x 4 siblings), got 12",
        ),
        (["--set", "reward.kind=siblings", "--baseline", "moving"], "got --baseline moving"),
        (["--returns", "later"], "returns: "),
        (["--set", "set7:rounds=1"], "one of the data sets set0, set1 before the colon"),
        (["--set", "set0:rounds=x"], "rounds: expected an integer >= 0"),
    ],
)
def test_usage_errors(sets, tmp_path, capsys, arguments, message):
    assert train(sets, "--output", tmp_path / "o", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--strategy", "rlmba"], 1, "use --strategy rlmba-x or train one for 'rlmba'"),
        (["--strategy", "badge"], 2, "strategy 'badge' has no option 'policy'"),
    ],
)
def test_a_policy_is_refused_where_it_does_not_belong(
    sets, policy, tmp_path, capsys, arguments, code, message
):
    assert use(policy, tmp_path / "r", "--data", sets[0], *arguments) == code
    assert message in capsys.readouterr().err
    assert use(tmp_path / "none", tmp_path / "r", "--data", sets[0], "--strategy", "rlmba-x") == 1
    assert "no such file" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
