from __future__ import annotations

import numpy as np
import pytest
import torch

from rlmba import kernels
from rlmba.errors import BackendError, DataError, NonFiniteError, ShapeError, UsageError
from rlmba.kernels.sequential_gcn import spec

BACKENDS = ["cpu", "reference"]


def adjacency(features, dtype, shifted=False):
    x = torch.nn.functional.normalize(torch.from_numpy(features).to(dtype), dim=1)
    s = x @ x.T
    if shifted:
        s = (1 + s) / 2
    s.fill_diagonal_(0)
    a = s / s.sum(dim=0)
    a.diagonal().add_(1)
    return x, a


def train_dense(
    features, labeled, seed, *, epochs, hidden=128, dropout=0.3, shifted=False, dtype=torch.float64
):
    """The published network with torch's own gradients and optimizer, the same weights and masks.

    Returns scores [N], hidden features [N, hidden] and logits [N].
    """
    n, width = features.shape
    start, mask_seed = spec.seeds(seed)
    theta = torch.from_numpy(spec.initial_parameters(start, width, hidden)).to(dtype)
    cut = hidden * width
    parameters = [
        theta[:cut].reshape(hidden, width).T.contiguous(),
        theta[cut : cut + hidden].clone(),
        theta[cut + hidden : -1, None].clone(),
        theta[-1:].clone(),
    ]
    w1, b1, w2, b2 = (p.requires_grad_() for p in parameters)
    optimizer = torch.optim.Adam(parameters, lr=1e-3, weight_decay=5e-4)
    x, a = adjacency(features, dtype, shifted)
    known = torch.from_numpy(labeled)
    below = spec.drop_below(dropout)

    def forward(mask):
        h = torch.relu(a @ (x @ w1) + b1)
        return h, (a @ ((h * mask) @ w2) + b2)[:, 0]

    for epoch in range(epochs):
        kept = torch.from_numpy(spec.kept(mask_seed, epoch, n, hidden, below)).to(dtype)
        s = torch.sigmoid(forward(kept / (1 - below / spec.LEVELS))[1])
        loss = -torch.log(s[known]).mean() - 1.2 * torch.log(1 - s[~known]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        h, z = forward(1)
    return torch.sigmoid(z).numpy(), h.numpy(), z.numpy()


def features_and_labels(rng, n, width, *, signed=False, dtype=np.float32):
    f = rng.normal(size=(n, width)) + 2 * rng.normal(size=(5, width))[rng.integers(5, size=n)]
    f = f if signed else np.maximum(f, 0) + 1e-3
    labeled = np.zeros(n, dtype=bool)
    labeled[rng.permutation(n)[: max(1, n // 8)]] = True
    return f.astype(dtype), labeled


def run(f, labeled, **options):
    return kernels.sequential_gcn(f, labeled, **({"rng": 3, "backend": "cpu"} | options))


def assert_same(ours, scores, hidden, logits, tolerance):
    np.testing.assert_allclose(ours.scores, scores, rtol=0, atol=tolerance)
    np.testing.assert_allclose(ours.hidden, hidden, rtol=0, atol=10 * tolerance * hidden.max())
    np.testing.assert_allclose(ours.logits, logits, rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("signed", [False, True], ids=["cosine", "shifted"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.slow
def test_the_whole_training_is_that_of_the_dense_network(rng, backend, signed, dropout):
    """200 epochs of torch's autograd and Adam on the dense adjacency, in float64."""
    f, labeled = features_and_labels(rng, 150, 20, signed=signed, dtype=np.float64)
    ours = run(f, labeled, dropout=dropout, backend=backend)
    assert ours.affinity == ("shifted" if signed else "cosine")
    exact = train_dense(f, labeled, 3, epochs=200, dropout=dropout, shifted=signed)
    assert_same(ours, *exact, 1e-9)
    assert exact[0].std() > 0.02


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("signed", [False, True], ids=["cosine", "shifted"])
@pytest.mark.parametrize("shape", spec.SHAPES)
@pytest.mark.slow
def test_matches_the_dense_network(rng, poisoned, product_isa, shape, signed, dtype):
    n, width, hidden = shape
    f, labeled = features_and_labels(rng, n, width, signed=signed, dtype=dtype)
    ours = run(
        f, labeled, epochs=spec.EPOCHS, hidden=hidden, affinity="shifted" if signed else "cosine"
    )
    exact = train_dense(
        f.astype(np.float64), labeled, 3, epochs=spec.EPOCHS, hidden=hidden, shifted=signed
    )
    tiles = dtype == "float32" and product_isa == "avx512" and width >= 32
    assert_same(ours, *exact, spec.TOLERANCE["float32 on tiles" if tiles else dtype])
    assert ours.scores.dtype == ours.hidden.dtype == ours.logits.dtype == dtype


@pytest.mark.slow
def test_float32_strays_as_torch_does(rng):
    """Over 200 epochs rounding grows, in torch's float32 as in ours; the picture stays the same."""
    f, labeled = features_and_labels(rng, 800, 64)
    exact, *_ = train_dense(f, labeled, 3, epochs=200)
    ours = run(f, labeled).scores
    assert np.abs(ours - exact).max() < 0.05
    assert np.corrcoef(ours, exact)[0, 1] > 0.999


def test_labeled_rows_score_higher(rng):
    f, labeled = features_and_labels(rng, 300, 20)
    scores = run(f, labeled).scores
    assert scores[labeled].mean() > scores[~labeled].mean() + 0.02


def test_dropout_law():
    """16 bits a unit, four units a draw: the share dropped, and no unit or row tied to another."""
    _, seed = spec.seeds(5)
    below = spec.drop_below(0.3)
    kept = np.stack([spec.kept(seed, e, 4000, 6, below) for e in range(3)])
    n = kept[0].size
    deviation = np.sqrt(0.21 / n)
    assert (np.abs(kept.mean(axis=(1, 2)) - 0.7) < 4.5 * deviation).all()
    columns = kept.transpose(1, 0, 2).reshape(4000, 18)
    pairs = np.corrcoef(columns, rowvar=False) - np.eye(18)
    assert np.abs(pairs).max() < 5 / np.sqrt(4000)
    assert spec.kept(seed, 0, 10, 3, 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_do_not_change_a_bit(rng, product_isa, with_threads, dtype):
    f, labeled = features_and_labels(rng, 3000, 40, dtype=dtype)
    expected = run(f, labeled, epochs=3, hidden=48)
    for n in (1, 3):
        result = with_threads(n, lambda: run(f, labeled, epochs=3, hidden=48))
        np.testing.assert_array_equal(result.scores, expected.scores)
        np.testing.assert_array_equal(result.hidden, expected.hidden)
        np.testing.assert_array_equal(result.logits, expected.logits)


@pytest.mark.parametrize("backend", BACKENDS)
def test_degenerate_features(rng, backend):
    f, labeled = features_and_labels(rng, 60, 4)
    f[5:20] = f[5]
    f[40:44] = 0
    for given in (f, np.zeros_like(f), np.ones_like(f)):
        result = run(given, labeled, backend=backend)
        assert np.isfinite(result.scores).all()
        assert ((result.scores >= 0) & (result.scores <= 1)).all()
        assert (result.hidden >= 0).all()
    two = run(f[:2], np.array([True, False]), backend=backend)
    assert two.scores.shape == (2,)


@pytest.mark.parametrize("backend", BACKENDS)
def test_seeds_and_kinds(rng, backend):
    f, labeled = features_and_labels(rng, 100, 6)
    options = {"epochs": 4, "hidden": 9, "backend": backend}
    a, b = (
        kernels.sequential_gcn(f, labeled, rng=np.random.default_rng(8), **options)
        for _ in range(2)
    )
    np.testing.assert_array_equal(a.hidden, b.hidden)
    generator = np.random.default_rng(8)
    first, second = (kernels.sequential_gcn(f, labeled, rng=generator, **options) for _ in range(2))
    np.testing.assert_array_equal(first.scores, a.scores)
    assert not np.array_equal(second.scores, a.scores)
    tensor = torch.from_numpy(np.stack([f, f], axis=1))[:, 1]
    out = kernels.sequential_gcn(
        tensor, torch.from_numpy(labeled), rng=np.random.default_rng(8), **options
    )
    assert isinstance(out.hidden, torch.Tensor)
    np.testing.assert_array_equal(out.scores.numpy(), a.scores)
    half = kernels.sequential_gcn(tensor.half(), labeled, rng=1, **options)
    assert half.scores.dtype == torch.float32


def test_inputs_are_unchanged(rng):
    f, labeled = features_and_labels(rng, 100, 32)
    copies = f.copy(), labeled.copy()
    run(f, labeled, epochs=2)
    np.testing.assert_array_equal(f, copies[0])
    np.testing.assert_array_equal(labeled, copies[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_errors(rng, backend):
    f, labeled = features_and_labels(rng, 40, 3)
    options = {"epochs": 1, "backend": backend}
    with pytest.raises(
        UsageError, match=r"at least one labeled and one unlabeled row, got 0 labeled"
    ):
        run(f, np.zeros(40, dtype=bool), **options)
    with pytest.raises(UsageError, match="got 40 labeled of 40"):
        run(f, np.ones(40, dtype=bool), **options)
    with pytest.raises(ShapeError, match=r"labeled: expected a bool array of shape \(40,\)"):
        run(f, labeled.astype(int), **options)
    with pytest.raises(ShapeError, match="labeled"):
        run(f, labeled[1:], **options)
    with pytest.raises(ShapeError, match="at least one column"):
        run(f[:, :0], labeled, **options)
    for name, value in {
        "epochs": -1,
        "hidden": 0,
        "dropout": 1.0,
        "learning_rate": -1.0,
        "weight_decay": np.inf,
        "unlabeled_weight": np.nan,
        "affinity": "rbf",
    }.items():
        with pytest.raises(UsageError, match=name):
            run(f, labeled, **(options | {name: value}))
    with pytest.raises(UsageError, match="dropout"):
        run(f, labeled, **(options | {"dropout": np.nan}))
    with pytest.raises(BackendError, match="available"):
        run(f, labeled, **(options | {"backend": "cuda"}))
    with pytest.raises(DataError, match="diverged"), np.errstate(all="ignore"):
        run(f, labeled, **(options | {"learning_rate": 1e300, "epochs": 5}))
    f[[17, 30], 2] = np.nan
    with pytest.raises(NonFiniteError, match=r"features\[17, 2\]") as caught:
        run(f, labeled, **options)
    assert caught.value.row == 17
