"""A minibatch in parts, in one process or two, gives the result of the whole minibatch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlmba.config import TrainingConfig
from rlmba.data import InMemoryDataset
from rlmba.errors import PeerError, UsageError
from rlmba.models.dropout import SharedDropout
from rlmba.training import ProcessGroup, rank_and_size, reports_error
from rlmba.training.loss import head_counts, multimodal_loss, part_loss
from rlmba.training.minibatches import MinibatchPlan
from rlmba.training.processes import block
from tests.helpers import shared_work as shared


def of_size(size, rank):
    """The group of one of several processes, for methods that do not communicate."""
    group = ProcessGroup()
    group.size, group.rank = size, rank
    return group


@pytest.mark.parametrize(("n", "of"), [(0, 3), (1, 2), (7, 2), (7, 3), (12, 4), (3, 5)])
def test_blocks_are_all_rows_once(n, of):
    rows = [block(n, i, of) for i in range(of)]
    assert [i for r in rows for i in range(n)[r]] == list(range(n))
    sizes = [r.stop - r.start for r in rows]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_plan_gives_each_row_to_one_process_and_steps_to_all(size, accumulation):
    config = TrainingConfig(minibatch_size=5, gradient_accumulation=accumulation)
    plans = [
        MinibatchPlan(11, config, epochs=3, seed=4, group=of_size(size, rank))
        for rank in range(size)
    ]
    for step in range(plans[0].steps):
        minibatches = [p.minibatch(step) for p in plans]
        assert len({len(m.parts) for m in minibatches}) == 1
        order = minibatches[0].order
        assert all(np.array_equal(order, m.order) for m in minibatches)
        counted = [i for m in minibatches for p in m.parts if p.counted for i in range(11)[p.rows]]
        assert sorted(counted) == list(range(len(order)))
    epoch = np.concatenate([plans[0].minibatch(s).order for s in range(plans[0].per_epoch)])
    assert sorted(epoch.tolist()) == list(range(11))


def test_losses_of_parts_add_up(rng):
    from rlmba.models import ModelOutput

    logits = {m: torch.from_numpy(rng.normal(size=(9, 4))) for m in ("a", "b", "mm")}
    y = torch.from_numpy(rng.integers(4, size=9))
    present = torch.from_numpy(rng.random((9, 2)) < 0.5)
    present[:5, 1] = False

    def output(rows):
        z = {m: a[rows] for m, a in logits.items()}
        return ModelOutput({}, {m: z[m] for m in "ab"}, z["mm"], z["mm"])

    for there in (present, None, torch.zeros_like(present)):
        parts = [slice(0, 5), slice(5, 6), slice(6, 9)]
        cut = [None if there is None else there[r] for r in parts]
        sizes = [r.stop - r.start for r in parts]
        counts = sum(head_counts(n, t, 2, y) for n, t in zip(sizes, cut, strict=True))
        total = sum(part_loss(output(r), y[r], t, counts) for r, t in zip(parts, cut, strict=True))
        torch.testing.assert_close(total, multimodal_loss(output(slice(None)), y, there))


def test_dropout_of_rows_is_that_of_the_batch():
    x = torch.randn(6, 50) + 10
    layer = SharedDropout(0.3)

    def drawn(rows):
        with layer.drawing(torch.Generator().manual_seed(2), 6, rows):
            return layer(x[rows])

    whole = drawn(slice(None))
    assert 0.2 < (whole == 0).double().mean() < 0.4
    assert torch.equal(torch.cat([drawn(slice(0, 4)), drawn(slice(4, 6))]), whole)
    with torch.random.fork_rng():
        torch.manual_seed(2)  # the same masks as torch's own module
        assert torch.equal(torch.nn.Dropout(0.3)(x), whole)
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize(
    "kind", ["image", "spectrogram", "waveform", "features", "sequence", "tokens", "video"]
)
def test_augmentation_of_rows_is_that_of_the_batch(kind, rng):
    shape = {
        "image": (20, 2, 24, 30),
        "spectrogram": (20, 1, 16, 40),
        "waveform": (20, 60),
        "features": (20, 5),
        "sequence": (20, 7, 3),
        "tokens": (20, 9),
        "video": (20, 3, 2, 12, 12),
    }[kind]
    values = rng.integers(1, 9, size=shape) if kind == "tokens" else rng.normal(size=shape)
    data = InMemoryDataset(
        "one",
        {"m": values if kind == "tokens" else values.astype(np.float32)},
        kinds={"m": kind},
        labels=np.arange(20) % 2,
        classes=["no", "yes"],
        ids=[str(i) for i in range(20)],
        split=np.zeros(20, int),
    )
    positions = np.array([3, 9, 4, 3, 17, 0, 11])

    def read(rows):
        generator = torch.Generator().manual_seed(5)
        batch = data.load(positions, train=True, generator=generator, rows=rows)
        return batch.inputs["m"], generator.get_state()

    whole, state = read(None)
    for rows in (slice(0, 3), slice(3, 7), slice(0, 0), slice(6, 7)):
        part, after = read(rows)
        assert torch.equal(part, whole[rows])
        assert torch.equal(after, state)


@pytest.fixture(scope="module")
def alone():
    torch.set_num_threads(1)
    return {name: shared.work(ProcessGroup(), name) for name in shared.TRAININGS}


def same_work(found, expected, **tolerance):
    assert set(found) == set(expected)
    for key, value in expected.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(found[key], value, err_msg=key, **tolerance)
        else:
            np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_two_processes_give_the_numbers_of_one(launch, tmp_path, alone):
    """Equal up to the rounding of sums; predictions are rounded to float32 at the end."""
    for process in launch([shared.__file__, tmp_path]):
        _, complaints = process.communicate(timeout=600)
        assert process.returncode == 0, complaints
    for name, expected in alone.items():
        with np.load(tmp_path / f"{name}.npz") as found:
            same_work(dict(found), expected, rtol=1e-6, atol=1e-8)
    steps = alone["patience"]["diagnostics"][3]
    assert steps < alone["plain"]["diagnostics"][3]  # it stopped early


@pytest.mark.parametrize("accumulation", [2, 7])
@pytest.mark.parametrize("loss", ["cross-entropy", "evidential"])
def test_accumulated_gradients_are_those_of_the_minibatch(accumulation, loss):
    whole, _, a = shared.trained(ProcessGroup(), loss=loss)
    parts, _, b = shared.trained(ProcessGroup(), loss=loss, gradient_accumulation=accumulation)
    for (name, w), p in zip(whole.state_dict().items(), parts.state_dict().values(), strict=True):
        torch.testing.assert_close(p, w, msg=name)
    assert b.final_loss == pytest.approx(a.final_loss)


def test_long_gradients_are_cut():
    _, _, free = shared.trained(ProcessGroup(), learning_rate=1e-12)
    one, _, cut = shared.trained(
        ProcessGroup(), learning_rate=1e-12, max_grad_norm=free.gradient_norm / 9
    )
    assert cut.gradient_norm == pytest.approx(free.gradient_norm)  # as it was before
    norm = torch.stack([p.grad.square().sum() for p in one.parameters()]).sum().sqrt()
    assert float(norm) == pytest.approx(free.gradient_norm / 9)


def test_a_mesh_of_one_costs_and_changes_nothing():
    group = ProcessGroup.open("cpu", "auto")
    assert rank_and_size() == (0, 1)
    assert (group.rank, group.size, group.is_main, group.precision) == (0, 1, True, "fp32")
    value = object()
    assert group.broadcast(value) is value
    assert group.collect(value) == [value]
    x = torch.ones(3)
    assert group.sum(x) is x
    group.barrier()
    group.leave()
    assert reports_error()
    assert not torch.distributed.is_initialized()


def test_devices(monkeypatch):
    with pytest.raises(UsageError, match="device: expected 'auto', 'cpu' or a usable"):
        ProcessGroup("quantum")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="the launcher assigns"):
        ProcessGroup.open("cuda:1")


def test_processes_that_are_not_there(launch):
    code = (
        "from rlmba.training import ProcessGroup; group = ProcessGroup.open('cpu'); "
        "group.is_main and exit(3); group.barrier()"
    )
    main, other = launch(["-c", code])
    _, complaint = other.communicate(timeout=60)
    assert main.wait(60) == 3
    assert other.returncode == 1
    assert f"{PeerError.__name__}: another process of this run has ended" in complaint
