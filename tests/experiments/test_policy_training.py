"""Training of policies: credit, checkpoints, real episodes, leaving one data set out."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from safetensors.numpy import load_file

from rlmba.errors import CheckpointError, DataError, RunFolderError, UsageError
from rlmba.experiments.policy_training import (
    ActiveLearning,
    Episode,
    PolicyTraining,
    advantages,
    agent_of,
    compare_policy,
    configurations,
    leave_one_out,
    planned,
    returns,
    train_policy,
)
from rlmba.learner import run
from rlmba.method.agent import Agent, Collector
from rlmba.method.policy_file import read_policy
from rlmba.method.state import CANDIDATE_FEATURES, STATE_FEATURES
from tests.helpers.float64_runs import networks_in_float64
from tests.helpers.interrupting import StopAfter, Stopped

TINY = (
    "rounds=2",
    "batch_size=6",
    "initial_labels=8",
    "epochs=2",
    "model.width=8",
    "device=cpu",
    "validation_fraction=0.2",
)


def episode(task, start, rewards):
    return Episode(task, start, [], np.array(rewards, dtype=np.float64))


class TestCredit:
    def test_returns(self):
        r = np.array([1.0, 2.0, 4.0])
        np.testing.assert_array_equal(returns(r, rule="immediate", discount=0.5), r)
        np.testing.assert_array_equal(returns(r, rule="to-go", discount=0.5), [3.0, 4.0, 4.0])
        np.testing.assert_array_equal(returns(r, rule="to-go", discount=1.0), [7.0, 6.0, 4.0])
        assert r.tolist() == [1, 2, 4]

    def test_moving_baseline_is_by_task_and_round_and_of_the_past(self):
        plain = PolicyTraining(standardize=False, momentum=0.75)
        moving = {}
        first = [episode("a", 0, [1, 10]), episode("a", 1, [3, 30]), episode("b", 0, [100])]
        a = advantages(first, plain, moving)
        # Without a past, the mean of the step is the baseline.
        np.testing.assert_allclose(a[0], [-1, -10])
        np.testing.assert_allclose(a[1], [1, 10])
        np.testing.assert_allclose(a[2], [0])
        b = advantages([episode("a", 2, [6, 20])], plain, moving)
        np.testing.assert_allclose(b[0], [4, 0])
        np.testing.assert_allclose(moving["a"], [0.75 * 2 + 0.25 * 6, 20])
        np.testing.assert_allclose(moving["b"], [100])

    def test_siblings_measure_each_other_and_not_themselves(self):
        settings = PolicyTraining(standardize=False, baseline="siblings", siblings=3, parallel=6)
        rewards = [1.0, 2.0, 6.0, 50.0, 50.0, 53.0]
        episodes = [episode("a", i // 3, [r]) for i, r in enumerate(rewards)]
        a = np.concatenate(advantages(episodes, settings, {}))
        np.testing.assert_allclose(a, [1 - 4, 2 - 3.5, 6 - 1.5, -1.5, -1.5, 3])

    def test_standardized_by_task(self):
        settings = PolicyTraining(parallel=4)
        episodes = [
            episode(t, i, [scale * r])
            for t, scale in (("a", 1.0), ("b", 1000.0), ("c", 0.0))
            for i, r in enumerate((1.0, 2.0, 6.0))
        ]
        a = np.concatenate(advantages(episodes, settings, {})).reshape(3, 3)
        np.testing.assert_allclose(a[0], a[1])
        assert (a[0] ** 2).mean() == pytest.approx(1)
        assert a[2].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"parallel": 6, "siblings": 4}, r"multiple of siblings \(4\), got 6"),
        ({"baseline": "siblings"}, "siblings of 2 or more"),
        ({"returns": "later"}, "returns: .*'immediate' or 'to-go', got 'later'"),
        ({"discount": 1.5}, "discount: .*less than or equal to 1, got 1.5"),
        ({"episodes": 0, "entropy": -1.0}, "episodes: .*\nentropy: "),
    ],
)
def test_bad_settings_are_named(given, match):
    with pytest.raises(UsageError, match=match):
        PolicyTraining.of(**given)


def planned_for(sets, *settings, **given):
    chosen, plan = planned(configs(sets, *settings), **given)
    reward = chosen[0].reward
    return reward.kind, reward.measure, plan.baseline, plan.siblings, plan.parallel


def test_what_is_not_given_suits_the_rest(sets):
    assert planned_for(sets[:2]) == ("siblings", "nll", "siblings", 4, 8)
    assert planned_for(sets) == ("siblings", "nll", "siblings", 4, 12)
    assert planned_for(sets, leave_one_out=True)[-1] == 8
    assert planned_for(sets[:1], "reward.measure=top1")[:2] == ("siblings", "top1")
    assert planned_for(sets, baseline="moving") == ("absolute", "top1", "moving", 1, 9)
    assert planned_for(sets[:1], "reward.kind=incremental")[:3] == ("incremental", "top1", "moving")
    chosen = planned_for(sets[:1], "reward.kind=siblings", siblings=2, parallel=2)
    assert chosen == ("siblings", "top1", "siblings", 2, 2)


class Toy:
    """Rewards a large first candidate feature, with as much noise; fast, and two tasks."""

    facts = {"tasks": ["x", "y"], "toy": 1}

    def __init__(self, spoil=None):
        self.spoil = spoil

    def run(self, agent, numbers):
        return [self.episode(agent, i) for i in numbers]

    def episode(self, agent, number):
        rng = np.random.default_rng(number)
        collector = Collector(agent, np.random.default_rng([number, 1]))
        rewards = []
        for _ in range(2):
            candidates = rng.normal(size=(8, len(CANDIDATE_FEATURES)))
            picks = collector.draw(rng.normal(size=len(STATE_FEATURES)), candidates, 2, rng=rng)
            rewards.append(candidates[picks, 3].mean() + rng.normal())
        if number == self.spoil:
            rewards[1] = np.nan
        return Episode("xy"[number % 2], number, collector.draws, np.array(rewards))


def train(folder, episodes=24, resume=False, environment=None, **more):
    settings = PolicyTraining(episodes=episodes, parallel=4, window=2, **more)
    return train_policy(
        environment or Toy(), Agent(hidden=4, learning_rate=0.05), folder, settings,
        strategy="rlmba-x", resume=resume,
    )  # fmt: skip


def files(folder):
    texts = {p.name: p.read_bytes() for p in folder.glob("*.csv")}
    weights = {p.name: load_file(p) for p in folder.glob("*.safetensors")}
    return texts, {f"{n}/{k}": a for n, w in weights.items() for k, a in w.items()}


def assert_same(one, other):
    (a, x), (b, y) = files(one), files(other)
    assert a == b
    assert x.keys() == y.keys()
    for key, value in x.items():
        np.testing.assert_array_equal(value, y[key], err_msg=key)


class TestTraining:
    def test_what_it_leaves(self, tmp_path):
        trained = train(tmp_path / "t")
        policy = read_policy(trained.policy, strategy="rlmba-x")
        assert policy.facts["tasks"] == ["x", "y"]
        assert policy.facts["episodes"] == 24
        assert policy.options == {"hidden": 4, "sharpness": 1.0}
        assert policy.arrays["state.count"] == 48
        rows = list(csv.DictReader((tmp_path / "t" / "returns.csv").open()))
        assert [int(r["episodes"]) for r in rows] == [4, 8, 12, 16, 20, 24]
        values = [float(r["return"]) for r in rows]
        assert float(rows[0]["moving_return"]) == values[0]
        assert float(rows[4]["moving_return"]) == pytest.approx(np.mean(values[3:5]))
        for r in rows:
            both = (float(r["return:x"]) + float(r["return:y"])) / 2
            assert float(r["return"]) == pytest.approx(both)
        assert (tmp_path / "t" / "returns.png").read_bytes()[:4] == b"\x89PNG"
        assert not trained.stopped_early

    @pytest.mark.slow
    def test_stopped_after_any_step_it_ends_the_same(self, tmp_path):
        train(tmp_path / "whole")
        for steps in (1, 3):
            part = tmp_path / f"part{steps}"
            train(part, episodes=4 * steps)
            train(part, resume=True)  # with more episodes than before
            assert_same(tmp_path / "whole", part)

    def test_resuming_a_finished_training_changes_nothing(self, tmp_path):
        train(tmp_path / "a", patience=2)
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        train(tmp_path / "b", patience=2, resume=True)
        assert_same(tmp_path / "a", tmp_path / "b")

    def test_patience_keeps_the_best(self, tmp_path):
        class Falling(Toy):
            """Rewards decrease after the third step, which is the best."""

            def run(self, agent, numbers):
                level = -abs(numbers[0] // 4 - 2)
                return [
                    Episode(e.task, e.start, e.draws, 0.01 * e.rewards + level)
                    for e in super().run(agent, numbers)
                ]

        trained = train(tmp_path / "f", episodes=400, environment=Falling(), patience=3)
        moving = [h["moving_return"] for h in trained.history]
        best = int(np.argmax(moving[1:])) + 1
        assert trained.stopped_early
        assert len(moving) == best + 1 + 3
        short = train(tmp_path / "s", episodes=4 * (best + 1), environment=Falling())
        a, b = (read_policy(t.policy, strategy="rlmba-x") for t in (trained, short))
        for key, value in a.arrays.items():
            np.testing.assert_array_equal(value, b.arrays[key])
        assert a.facts["episodes"] == 4 * (best + 1)

    def test_refusals(self, tmp_path):
        train(tmp_path / "t", episodes=4)
        with pytest.raises(UsageError, match="already contains a training; add --resume"):
            train(tmp_path / "t")
        with pytest.raises(RunFolderError, match=r"settings\.entropy was 0\.0 and is now 0\.1"):
            train(tmp_path / "t", resume=True, entropy=0.1)
        other = Toy()
        other.facts = {"tasks": ["x", "y"], "toy": 2}
        with pytest.raises(RunFolderError, match=r"environment\.toy was 1 and is now 2"):
            train(tmp_path / "t", resume=True, environment=other)
        (tmp_path / "u").mkdir()
        (tmp_path / "u" / "mine.txt").write_text("")
        with pytest.raises(UsageError, match="files that are not a training"):
            train(tmp_path / "u")
        file = tmp_path / "t" / "checkpoint.safetensors"
        file.write_bytes(file.read_bytes()[:-7])
        with pytest.raises(CheckpointError, match="expected the checkpoint of a training"):
            train(tmp_path / "t", resume=True)

    @pytest.mark.slow
    def test_a_reward_that_is_not_finite_ends_it_before_the_step(self, tmp_path):
        with pytest.raises(DataError, match=r"episode of x, seed 6: expected finite rewards"):
            train(tmp_path / "t", environment=Toy(spoil=6))
        train(tmp_path / "t", resume=True)
        train(tmp_path / "whole")
        assert_same(tmp_path / "whole", tmp_path / "t")

    @pytest.mark.slow
    def test_kill_9_in_the_middle_of_a_step(self, tmp_path):
        code = f"""
            import sys, time
            sys.path[:] = {sys.path!r}
            from tests.experiments import test_policy_training as t
            from pathlib import Path
            class Slow(t.Toy):
                def run(self, agent, numbers):
                    episodes = super().run(agent, numbers)
                    if numbers[0] == 12:
                        print("here", flush=True)
                        time.sleep(60)
                    return episodes
            t.train(Path({str(tmp_path / "killed")!r}), environment=Slow())
        """
        command = [sys.executable, "-c", textwrap.dedent(code)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "here\n"
            process.send_signal(signal.SIGKILL)
        assert not (tmp_path / "killed" / "policy.safetensors").exists()
        train(tmp_path / "killed", resume=True)
        train(tmp_path / "whole")
        assert_same(tmp_path / "whole", tmp_path / "killed")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Three small sets of features with different widths and numbers of classes."""
    folder = tmp_path_factory.mktemp("sets")
    for i, classes in enumerate((2, 4, 3)):
        rng = np.random.default_rng(i)
        y = np.arange(100) % classes
        arrays = {
            m: (rng.normal(size=(100, d)) + 1.5 * np.eye(classes, d)[y]).astype(np.float32)
            for m, d in (("image", 5 + i), ("text", 4))
        }
        np.savez(folder / f"set{i}.npz", y=y, split=(np.arange(100) % 5 == 0), **arrays)
    return [folder / f"set{i}.npz" for i in range(3)]


def configs(paths, *more, strategy="rlmba-x"):
    return configurations(
        paths, dataset=None, strategy=strategy, seed=3, settings=[*TINY, *more], file=None
    )


@pytest.mark.slow
class TestActiveLearning:
    @pytest.mark.parametrize("strategy", ["rlmba-x", "rlmba"])
    def test_episodes(self, sets, strategy, monkeypatch):
        networks_in_float64(monkeypatch)
        settings = PolicyTraining(parallel=8, siblings=2)
        chosen = configs(sets[:2], "set1:rounds=1", strategy=strategy)
        environment = ActiveLearning(chosen, settings)
        agent = agent_of(chosen[0])
        before = agent.state_dict()
        episodes = environment.run(agent, range(8, 16))
        assert [e.task for e in episodes] == ["set0", "set1"] * 4
        assert [e.start for e in episodes] == [5, 5, 5, 5, 6, 6, 6, 6]
        assert [len(e.draws) for e in episodes] == [2, 1] * 4
        assert [len(e.rewards) for e in episodes] == [2, 1] * 4
        for e in episodes:
            assert ((e.rewards >= 0) & (e.rewards <= 1)).all()
            assert {len(d.taken.indices) for d in e.draws} == {6}
        # Siblings see the same candidates in their first round and draw differently.
        first, sibling = episodes[0].draws[0].taken, episodes[2].draws[0].taken
        np.testing.assert_allclose(first.candidates, sibling.candidates, rtol=1e-5, atol=1e-7)
        assert not np.array_equal(first.indices, sibling.indices)
        for key, value in agent.state_dict().items():
            np.testing.assert_array_equal(value, before[key])
        again = environment.run(agent, range(8, 16))
        for a, b in zip(episodes, again, strict=True):
            np.testing.assert_array_equal(a.rewards, b.rewards)

    def test_rewards_are_those_of_the_configured_kind(self, sets):
        (config,) = configs(sets[:1], "reward.kind=incremental")
        environment = ActiveLearning([config], PolicyTraining(parallel=1))
        absolute = ActiveLearning(configs(sets[:1]), PolicyTraining(parallel=1))
        agent = agent_of(config)
        (a,), (b,) = environment.run(agent, range(1)), absolute.run(agent, range(1))
        assert np.diff(b.rewards) == pytest.approx(a.rewards[1:])

    def test_siblings_of_a_state_differ_by_their_last_batch_only(self, sets, monkeypatch):
        networks_in_float64(monkeypatch)
        settings = PolicyTraining(parallel=6, siblings=3, baseline="siblings")
        more = "reward.kind=siblings", "rounds=3", "strategy_options.sharpness=0.1"
        chosen = configs(sets[:1], *more)
        first, *others = ActiveLearning(chosen, settings).run(agent_of(chosen[0]), range(6))[:3]
        apart = ActiveLearning(configs(sets[:1], *more[1:]), settings)
        alone = apart.run(agent_of(chosen[0]), range(6))[:3]
        # The first sibling's run is its own; the others start each round from its labels and model.
        np.testing.assert_array_equal(first.rewards, alone[0].rewards)
        for t in range(3):
            seen = [e.draws[t].taken.candidates for e in (first, *others)]
            assert np.allclose(seen[0], seen[1], rtol=1e-5, atol=1e-7)
            assert np.allclose(seen[0], seen[2], rtol=1e-5, atol=1e-7)
            picks = {tuple(e.draws[t].taken.indices) for e in (first, *others)}
            assert len(picks) == 3
        last = [e.draws[2].taken.candidates for e in alone]
        assert not np.allclose(last[0], last[1], rtol=1e-5, atol=1e-7)

    def test_refusals(self, sets, tmp_path):
        with pytest.raises(
            UsageError, match=r"expected --baseline siblings .* got --baseline moving"
        ):
            ActiveLearning(configs(sets[:1], "reward.kind=siblings"), PolicyTraining(siblings=4))
        later = PolicyTraining(siblings=4, baseline="siblings", returns="to-go")
        with pytest.raises(UsageError, match="expected --returns immediate, got --returns to-go"):
            ActiveLearning(configs(sets[:1], "reward.kind=siblings"), later)
        with pytest.raises(UsageError, match=r"multiple of 6 \(2 data sets x 3 siblings\), got 3"):
            ActiveLearning(configs(sets[:2]), PolicyTraining(parallel=3, siblings=3))
        shutil.copy(sets[1], tmp_path / "set0.npz")
        with pytest.raises(UsageError, match="different names, got set0, set0"):
            ActiveLearning(configs([sets[0], tmp_path / "set0.npz"]), PolicyTraining())
        with pytest.raises(UsageError, match=r"\(rlmba, rlmba-x, rlmba-h\), got 'badge'"):
            configs(sets, strategy="badge")
        with pytest.raises(UsageError, match="one of the data sets set0 before the colon, got 'x'"):
            configs(sets[:1], "x:rounds=3")


@pytest.mark.slow
def test_a_trained_policy_is_used_and_resumed(sets, tmp_path):
    """Training on two sets and a run on a third, interrupted and continued."""
    chosen = configs(sets[:2], "strategy_options.learning_rate=0.05")
    trained = train_policy(
        ActiveLearning(chosen, PolicyTraining(parallel=2)),
        agent_of(chosen[0]),
        tmp_path / "t",
        PolicyTraining(episodes=4, parallel=2),
        strategy="rlmba-x",
    )
    policy = {"policy": "learned", "policy_file": str(trained.policy), "explore": False}
    (config,) = configs(sets[2:])
    config = config.model_copy(update={"strategy_options": policy})
    whole = run(config, tmp_path / "whole")
    assert all(not r.policy and r.advantage is None for r in whole.records)

    with pytest.raises(Stopped):
        run(config, tmp_path / "part", observer=StopAfter(1))
    run(config, tmp_path / "part", resume=True)
    for t in range(3):
        name = f"selected/round_{t:03d}.json"
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "part" / name).read_text()


class TestLeaveOneOut:
    @pytest.mark.slow
    def test_it_trains_on_the_others_and_compares_in_pairs(self, sets, tmp_path):
        settings = PolicyTraining(episodes=4, parallel=2)
        seen = []
        made = leave_one_out(
            configs(sets), tmp_path / "o", settings, seeds=2,
            observer=lambda name, figures: seen.append((name, figures["episodes"])),
        )  # fmt: skip
        assert seen == [(f"set{i}", n) for i in range(3) for n in (2, 4)]
        for i, c in enumerate(made.comparisons):
            assert (c.task, c.seeds, c.on) == (f"set{i}", (3, 4), "test")
            facts = read_policy(
                tmp_path / "o" / f"without-set{i}" / "policy.safetensors", strategy="rlmba-x"
            ).facts
            assert facts["tasks"] == [f"set{j}" for j in range(3) if j != i]
            assert c.difference == pytest.approx(np.mean(c.policy) - np.mean(c.rule))
        # The figures of the rule are those of a separate run.
        records = run(configs(sets[:1])[0], tmp_path / "run").records
        own = np.mean([r.test.mm.top1 for r in records])
        assert made.comparisons[0].rule[0] == pytest.approx(own, abs=0.02)
        table = made.table()
        assert [row[0].text for row in table.rows] == ["set0", "set1", "set2", "all"]
        assert table.rows[3][1].value == 6
        before = {p: p.stat().st_mtime_ns for p in made.paths}
        again = leave_one_out(configs(sets), tmp_path / "o", settings, seeds=2, resume=True)
        assert again.comparisons == made.comparisons
        assert {p: p.stat().st_mtime_ns for p in again.paths} == before
        with pytest.raises(UsageError, match="is not empty; add --resume"):
            leave_one_out(configs(sets), tmp_path / "o", settings)

    @pytest.mark.slow
    def test_an_untrained_policy_differs_from_its_rule_nowhere(self, sets, tmp_path):
        for strategy in ("rlmba-x", "rlmba"):
            (config,) = configs(sets[:1], strategy=strategy)
            file = tmp_path / f"{strategy}.safetensors"
            agent_of(config).save(file, strategy=strategy, facts={})
            c = compare_policy(config, file, [3, 4])
            assert c.policy == c.rule
            assert (c.difference, c.p) == (0.0, 1.0)
            assert json.dumps(c.seeds) == "[3, 4]"

    def test_needs_two_sets(self, sets, tmp_path):
        with pytest.raises(UsageError, match="two or more data sets"):
            leave_one_out(configs(sets[:1]), tmp_path / "o", PolicyTraining())
