"""Strategies over shards select exactly what they select from arrays in memory."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import dataclass

import numpy as np
import pytest

import rlmba
from rlmba.data.shards import ShardedPool
from rlmba.errors import DataError, NonFiniteError, UsageError
from rlmba.kernels.sharded import Alone
from rlmba.strategies import create, names
from rlmba.strategies.base import TopScore
from rlmba.strategies.cost import Workload
from rlmba.strategies.sharded import estimate_shards, why_not
from tests.helpers.thread_group import in_group

N, CLASSES, WIDTH = 13_000, 5, 8
HEAD = ("deepfool", "bmmal")
EXACT = (
    "random", "entropy", "margin", "deepfool", "bald", "rlmba", "rlmba-x", "coreset", "badge", "bmmal",
)  # fmt: skip


@pytest.fixture(scope="module")
def pool():
    rng = np.random.default_rng(0)
    one, two = (rng.normal(size=(N, WIDTH)).astype(np.float32) for _ in range(2))
    one[rng.random(N) < 0.05], two[:50] = one[3], two[3]
    weight = rng.normal(size=(CLASSES, WIDTH)).astype(np.float32)
    fused = (one + two) / 2
    return {
        "ids": np.array([f"sample {i}" for i in range(N)]),
        "features": fused,
        "features/text": one,
        "features/image": two,
        "logits": fused @ weight.T,
        "logits/text": one @ weight.T,
        "logits/image": two @ weight.T,
        "labeled": np.isin(np.arange(N), rng.choice(N, 40, replace=False)),
        "dropout_logits/0": rng.normal(size=(N, CLASSES)).astype(np.float32),
        "dropout_logits/1": rng.normal(size=(N, CLASSES)).astype(np.float32),
    }, (weight, np.zeros(CLASSES, np.float32))


def write(folder, arrays, cuts=(0, 1, 4000, 4000, 9500, N)):
    folder.mkdir()
    for k, (begin, end) in enumerate(itertools.pairwise(cuts)):
        np.savez(folder / f"part-{k}.npz", **{name: a[begin:end] for name, a in arrays.items()})
    return ShardedPool(folder)


def in_memory(name, arrays, n, head=None, **arguments):
    features, logits = (
        {k.partition("/")[2] or "mm": a for k, a in arrays.items() if k.startswith(kind)}
        for kind in ("features", "logits")
    )
    passes = [a for k, a in arrays.items() if k.startswith("dropout")]
    return rlmba.select(
        name, n=n, features=features, logits=logits, ids=arrays.get("ids"),
        dropout_logits=np.stack(passes) if passes else None, present=arrays.get("present"), head=head,
        labeled=arguments.pop("labeled", arrays.get("labeled")), rng=5, **arguments,
    )  # fmt: skip


def check(found, whole):
    np.testing.assert_array_equal(found.positions, whole.positions)
    np.testing.assert_array_equal(found.ids, whole.ids)
    np.testing.assert_array_equal(found.scores, whole.scores)


@pytest.mark.parametrize("name", EXACT)
def test_same_batch_for_any_number_of_processes(pool, tmp_path, name):
    arrays, head = pool
    head = head if name in HEAD else None
    shards = write(tmp_path / "shards", arrays)
    whole = in_memory(name, arrays, 150, head)
    for size in (1, 2, 3, 4):
        for memory in (None, 1):
            found = in_group(
                size,
                lambda group, memory=memory: rlmba.select(
                    name, n=150, pool=shards, rng=5, group=group, head=head, max_memory=memory
                ),
            )
            for one in found:
                check(one, whole)


@pytest.mark.parametrize("name", EXACT)
def test_processes_without_rows(pool, tmp_path, name):
    arrays = {key: a[:100] for key, a in pool[0].items()}
    head = pool[1] if name in HEAD else None
    shards = write(tmp_path / "shards", arrays, cuts=(0, 100))
    whole = in_memory(name, arrays, 20, head)
    for memory in (None, 1):
        found = in_group(
            4,
            lambda group, memory=memory: rlmba.select(
                name, n=20, pool=shards, rng=5, group=group, head=head, max_memory=memory
            ),
        )
        for one in found:
            check(one, whole)


@pytest.mark.parametrize("name", ["coreset", "badge", "margin"])
def test_labeled_samples_by_id_by_row_and_as_features(pool, tmp_path, name):
    arrays = {k: a for k, a in pool[0].items() if k != "labeled"}
    shards = write(tmp_path / "shards", arrays)
    mask = pool[0]["labeled"]
    whole = in_memory(name, pool[0], 30)
    check(rlmba.select(name, n=30, pool=shards, rng=5, labeled=mask), whole)
    check(rlmba.select(name, n=30, pool=shards, rng=5, labeled=arrays["ids"][mask][::-1]), whole)
    without = {k: a for k, a in arrays.items() if k != "ids"}
    bare = write(tmp_path / "bare", without)
    check(
        rlmba.select(name, n=30, pool=bare, rng=5, labeled=np.flatnonzero(mask)),
        in_memory(name, without, 30, labeled=mask),
    )
    outside = np.random.default_rng(1).normal(size=(9, WIDTH)).astype(np.float32)
    found = rlmba.select(name, n=30, pool=shards, rng=5, labeled={"mm": outside})
    check(found, in_memory(name, arrays, 30, labeled={"mm": outside}))


def lacking(arrays, *, rows=slice(100, 900), third=False, joined=False):
    """Arrays in which some samples lack a modality, some of them labeled."""
    arrays = dict(arrays)
    rng = np.random.default_rng(8)
    names = ["text", "image"]
    if third:
        names.append("sound")
        arrays["features/sound"] = rng.normal(size=(N, WIDTH)).astype(np.float32)
        arrays["logits/sound"] = rng.normal(size=(N, CLASSES)).astype(np.float32)
    present = np.ones((N, len(names)), np.bool_)
    present[np.arange(N)[rows], rng.integers(0, len(names), size=N)[rows]] = False
    present[12_500:12_600] = np.arange(len(names)) > 0
    for j, name in enumerate(names):
        for kind in ("features", "logits"):
            arrays[f"{kind}/{name}"] = arrays[f"{kind}/{name}"].copy()
            arrays[f"{kind}/{name}"][~present[:, j]] = np.nan if kind == "features" else 0
    parts = [np.nan_to_num(arrays[f"features/{name}"]) for name in names]
    fused = sum(parts) / present.sum(axis=1, keepdims=True)
    arrays["features"] = np.concatenate(parts, axis=1) if joined else fused.astype(np.float32)
    return arrays | {"present": present}


@pytest.mark.parametrize("case", ["two", "three", "joined", "one pattern", "no sample has both"])
@pytest.mark.parametrize("name", ["coreset", "badge", "rlmba-x", "rlmba", "bmmal", "margin"])
def test_samples_that_lack_a_modality(pool, tmp_path, name, case):
    arrays = lacking(
        pool[0],
        rows=slice(0, N) if case == "no sample has both" else slice(100, 900),
        third=case == "three",
        joined=case == "joined",
    )
    if case == "joined" and name == "bmmal":
        return
    head = pool[1] if name == "bmmal" else None
    shards = write(tmp_path / "shards", arrays)
    whole = in_memory(name, arrays, 50, head)
    for size in (1, 3):
        for found in in_group(
            size,
            lambda group: rlmba.select(name, n=50, pool=shards, rng=5, head=head, group=group),
        ):
            check(found, whole)


def test_incomplete_samples_and_labeled_samples_from_elsewhere(pool, tmp_path):
    arrays = lacking({k: a for k, a in pool[0].items() if k != "labeled"})
    shards = write(tmp_path / "shards", arrays)
    rng = np.random.default_rng(1)
    labeled = {m: rng.normal(size=(90, WIDTH)).astype(np.float32) for m in ("text", "image")}
    whole = in_memory("coreset", arrays, 50, labeled=labeled)
    for found in in_group(
        2, lambda group: rlmba.select("coreset", n=50, pool=shards, labeled=labeled, group=group)
    ):
        check(found, whole)


@pytest.mark.parametrize(
    "options",
    [
        {"policy": "greedy"},
        {"policy": "uniform"},
        {"policy": "greedy", "uncertainty": "vacuity+conflict"},
        {"policy": "learned", "efda": False},
        {"policy": "learned", "diversity": False},
        {"policy": "greedy", "lloyd_steps": 40, "beta": 0.3, "evidence": "exp"},
    ],
)
@pytest.mark.parametrize("incomplete", [False, True])
def test_options_of_rlmba(pool, tmp_path, options, incomplete):
    arrays = lacking(pool[0]) if incomplete else dict(pool[0])
    for kind in ("features", "features/text", "features/image"):
        arrays[kind] = arrays[kind].astype(np.float64)
    shards = write(tmp_path / "shards", arrays)
    given = {"weights": {"text": 0.3, "image": 0.7}, "temperatures": {"text": 1.5, "image": 0.8}}
    whole = in_memory(create("rlmba", **options), arrays, 70, **given)
    for size in (1, 4):
        for found in in_group(
            size,
            lambda group: rlmba.select(
                create("rlmba", **options), n=70, pool=shards, rng=5, group=group, **given
            ),
        ):
            check(found, whole)


@pytest.mark.parametrize("by_name", [False, True])
def test_presence_of_complete_samples_changes_nothing(pool, tmp_path, by_name):
    arrays = {k: a for k, a in pool[0].items() if not k.startswith("dropout")}
    every = np.ones((N, 2), np.bool_)
    said = (
        {f"present/{m}": every[:, 0] for m in ("text", "image")} if by_name else {"present": every}
    )
    shards = write(tmp_path / "shards", arrays | said)
    for name in ("coreset", "rlmba-x", "bmmal"):
        head = pool[1] if name in HEAD else None
        check(
            rlmba.select(name, n=20, pool=shards, rng=5, head=head),
            in_memory(name, pool[0], 20, head),
        )


def test_every_strategy_is_exact_or_refused_with_a_reason(pool, tmp_path):
    shards = write(tmp_path / "shards", pool[0])
    for name in names():
        strategy = create(name)
        assert (name in EXACT) == (why_not(strategy) == "")
        if name not in EXACT:
            with pytest.raises(UsageError, match=f"{name!r} cannot choose from shards: it .*; "):
                rlmba.select(name, n=5, pool=shards, rng=0)


@dataclass(kw_only=True)
class Longest(TopScore):
    name = "longest"
    summary = "the largest norm"
    needs = frozenset({"features"})

    def score(self, pool, context):
        return np.linalg.norm(np.asarray(pool.fused_features), axis=1)


def test_a_strategy_from_elsewhere_that_scores_samples_alone(pool, tmp_path):
    shards = write(tmp_path / "shards", pool[0])
    check(rlmba.select(Longest(), n=20, pool=shards), in_memory(Longest(), pool[0], 20))


def test_nothing_and_everything(pool, tmp_path):
    shards = write(tmp_path / "shards", pool[0])
    left = N - int(pool[0]["labeled"].sum())
    assert len(rlmba.select("margin", n=0, pool=shards)) == 0
    found = rlmba.select("margin", n=left, pool=shards)
    np.testing.assert_array_equal(np.sort(found.positions), np.flatnonzero(~pool[0]["labeled"]))
    with pytest.raises(UsageError, match=r"expected n within 0\.\.12,960 \(the unlabeled rows"):
        rlmba.select("margin", n=left + 1, pool=shards)


@pytest.mark.parametrize("name", ["margin", "badge", "coreset"])
def test_the_first_bad_row_is_named(pool, tmp_path, name):
    arrays = dict(pool[0])
    for kind in ("features", "logits"):
        arrays[kind] = arrays[kind].copy()
        arrays[kind][9600, 2] = np.nan
    shards = write(tmp_path / "shards", arrays)
    with pytest.raises(
        NonFiniteError, match=r"part-4.npz, row 100: expected finite numbers"
    ) as error:
        in_group(3, lambda group: rlmba.select(name, n=5, pool=shards, rng=0, group=group))
    assert error.value.row == 9600


def test_an_id_in_two_shards_is_refused(pool, tmp_path):
    arrays = dict(pool[0])
    arrays["ids"] = arrays["ids"].copy()
    arrays["ids"][12_000] = arrays["ids"][7]
    shards = write(tmp_path / "shards", arrays)
    with pytest.raises(
        DataError, match=r"part-4.npz, row 2500: .* 'sample 7' again, .*part-1.npz, row 6"
    ):
        in_group(2, lambda group: rlmba.select("margin", n=5, pool=shards, rng=0, group=group))


def test_processes_with_other_arguments_are_refused(pool, tmp_path):
    shards = write(tmp_path / "shards", pool[0])
    for changed, name in (("rng", "seed"), ("n", "number of samples")):

        def call(group, changed=changed):
            arguments = {"n": 5, "rng": 0} | ({changed: 6} if group.rank else {})
            return rlmba.select("margin", pool=shards, group=group, **arguments)

        with pytest.raises(UsageError, match=f"expected the same {name} in all processes, got"):
            in_group(2, call)
    renamed = write(tmp_path / "renamed", pool[0])
    renamed.paths[0].rename(renamed.paths[0].with_name("part-00.npz"))
    both = [shards, ShardedPool(tmp_path / "renamed")]
    with pytest.raises(UsageError, match="expected the same names and sizes of shards in all"):
        in_group(2, lambda g: rlmba.select("margin", n=5, pool=both[g.rank], rng=0, group=g))


def test_shards_and_arrays_are_not_mixed(pool, tmp_path):
    shards = write(tmp_path / "shards", pool[0])
    with pytest.raises(UsageError, match="shards or arrays of samples, got both"):
        rlmba.select("margin", n=5, pool=shards, logits=pool[0]["logits"])


def test_rows_that_do_not_fit_leave_no_file_behind(pool, tmp_path):
    shards = write(tmp_path / "shards", pool[0])
    spill = tmp_path / "spill"
    spill.mkdir()
    rlmba.select("coreset", n=20, pool=shards, rng=0, max_memory=1, spill_folder=spill)
    assert not any(spill.iterdir())


class Counting(Alone):
    """A process alone that counts what it would send to the others."""

    def __init__(self):
        self.sent, self.rounds = 0, 0

    def gather(self, value):
        self.sent += len(pickle.dumps(value))
        self.rounds += 1
        return [value]

    def add_up(self, values):
        self.sent += values.nbytes
        self.rounds += 1
        return values


@pytest.mark.parametrize("name", ["margin", "rlmba", "rlmba-x", "coreset", "badge", "bmmal"])
@pytest.mark.parametrize("n", [50, 600])
def test_estimated_communication(tmp_path, name, n):
    """Each of K processes receives what the others send, which is counted for one that has all rows."""
    rng = np.random.default_rng(0)
    rows, width, classes = 100_000, 64, 20
    centers = rng.normal(size=(20, width), scale=3)[rng.integers(0, 20, rows)]
    arrays = {
        "features": (centers + rng.normal(size=(rows, width), scale=0.5)).astype(np.float32),
        "logits": rng.normal(size=(rows, classes)).astype(np.float32),
    }
    head = (np.zeros((classes, width)), np.zeros(classes)) if name == "bmmal" else None
    shards = write(tmp_path / "shards", arrays, cuts=(0, 60_000, rows))
    group = Counting()
    rlmba.select(name, n=n, pool=shards, rng=0, group=group, head=head)
    work = Workload(samples=rows, batch=n, classes=classes, width=width)
    two = estimate_shards(create(name), work, 2)
    # The estimate includes hashes of ids, which these shards do not have: 16 bytes for half of the rows.
    ids = 16 * 53_248 / 2
    factor = 2 if name in ("badge", "bmmal", "coreset") else 1
    assert group.sent / 2.5 < (two.received - ids) * factor < group.sent * 2.5
    assert group.rounds / 2.5 < two.rounds < group.rounds * 2.5
    one = estimate_shards(create(name), work, 1)
    assert one.received == 0
    assert one.memory >= two.memory
    spilling = estimate_shards(create(name), work, 1, max_memory=1)
    assert (spilling.spilled > 0) == (name in ("coreset", "badge", "bmmal", "rlmba"))
