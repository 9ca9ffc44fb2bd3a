"""Plain forms of selections in torch, as active-learning code usually has them, for comparison with ours.

Arrays may be NumPy arrays or torch tensors; tensors on a GPU are processed there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlmba.types import LinearHead

__all__ = [
    "CDIST_MODES",
    "bald_difference",
    "deepfool_iteration",
    "dense_adjacency",
    "dense_gcn",
    "dirichlet_variances",
    "fused_score",
    "gradient_one_a_pass",
    "herding_in_blocks",
    "k_center_one_a_pass",
    "kmeans_one_a_pass",
    "kmeans_plusplus_one_a_pass",
    "minmax",
    "nearest_by_product",
    "normalized_score",
    "rlmba_selection",
]


def gradient_one_a_pass(
    residuals: NDArray[Any] | torch.Tensor,
    features: NDArray[Any] | torch.Tensor,
    n: int,
    seed: int = 0,
) -> NDArray[np.int64]:
    """k-means++ on a_i (x) z_i in factored form, with one center per pass over the data.

    Parameters
    ----------
    residuals : float32 array [N, C]
    features : float32 array [N, D]
    n : int
    seed : int

    Returns
    -------
    int64 array [n]
        Positions, the row of largest norm first.
    """
    a, z = torch.as_tensor(residuals), torch.as_tensor(features)
    norms = (a * a).sum(1) * (z * z).sum(1)
    generator = torch.Generator(a.device).manual_seed(seed)
    drawn = [int(norms.argmax())]
    squared = torch.full_like(norms, torch.inf)
    while len(drawn) < n:
        last = drawn[-1]
        to_last = norms + norms[last] - 2 * (a @ a[last]) * (z @ z[last])
        torch.minimum(squared, to_last.clamp_min_(0), out=squared)
        squared[last] = 0
        drawn.append(_one_of(squared, generator))
    return np.array(drawn)


def _one_of(squared: torch.Tensor, generator: torch.Generator) -> int:
    """Draw a position with probabilities proportional to ``squared`` [N]."""
    cumulated = squared.double().cumsum(0)
    uniform = torch.rand(1, generator=generator, dtype=torch.float64, device=squared.device)
    position = torch.searchsorted(cumulated, uniform * cumulated[-1], right=True)
    return min(int(position), len(squared) - 1)


CDIST_MODES = {
    "default": "use_mm_for_euclid_dist_if_necessary",
    "differences": "donot_use_mm_for_euclid_dist",
}


def k_center_one_a_pass(
    features: NDArray[Any] | torch.Tensor,
    labeled: NDArray[Any] | torch.Tensor,
    n: int,
    mode: str = "differences",
    first: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Greedy k-center by torch.cdist with one center per pass; distances to labeled rows in chunks.

    Parameters
    ----------
    features : float array [N, D]
    labeled : float array [L, D]
    n : int
    mode : {"default", "differences"}
        torch.cdist with its default, a matrix product for many centers, or with differences, which is
        faster here and more exact.
    first : int, optional
        The first pick, if no row is labeled.

    Returns
    -------
    (int64 array [n], float64 array [n])
        Positions, and the distance of each when it was picked; infinite if there was no center yet.
    """
    x, given = torch.as_tensor(features), torch.as_tensor(labeled)
    how = CDIST_MODES[mode]
    nearest = torch.full_like(x[:, 0], torch.inf)
    if len(given):
        parts = [x[begin : begin + 4096] for begin in range(0, len(x), 4096)]
        nearest = torch.cat([torch.cdist(part, given, compute_mode=how).amin(1) for part in parts])
    picks, reach = [], []
    for i in range(n):
        pick = first if first is not None and i == 0 else int(nearest.argmax())
        picks.append(pick)
        reach.append(float(nearest[pick]))
        to_pick = torch.cdist(x, x[pick : pick + 1], compute_mode=how).squeeze(1)
        torch.minimum(nearest, to_pick, out=nearest)
    return np.array(picks), np.array(reach)


def bald_difference(logits: NDArray[Any]) -> NDArray[Any]:
    """Entropy of the mean minus the mean entropy over passes [K, N, C]: float [N]."""
    log_p = torch.log_softmax(torch.from_numpy(logits), dim=2)
    p = log_p.exp()
    mean = p.mean(dim=0)
    entropy = -torch.xlogy(mean, mean).sum(dim=1)
    return np.asarray((entropy + (p * log_p).sum(dim=2).mean(dim=0)).numpy())


def deepfool_iteration(
    head: LinearHead, features: NDArray[Any], *, steps: int = 50, overshoot: float = 0.02
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """DeepFool as published: one sample at a time, with one backward pass per class.

    Returns
    -------
    (float64 array [N], int64 array [N])
        Length of the perturbation, and the class it reaches.
    """
    weight, bias = torch.from_numpy(head.weight), torch.from_numpy(head.bias)
    distances, classes = [], []
    for sample in torch.from_numpy(features):
        x = sample.clone().requires_grad_()
        f = weight @ x + bias
        start = int(f.argmax())
        moved = torch.zeros_like(sample)
        for _ in range(steps):
            gradients = [
                torch.autograd.grad(f[k], x, retain_graph=True)[0] for k in range(len(bias))
            ]
            w = torch.stack(gradients) - gradients[start]
            norms = w.norm(dim=1)
            away = (f - f[start]).detach().abs() / norms
            away[start] = torch.inf
            k = int(away.argmin())
            moved = moved + away[k] / norms[k] * w[k]
            x = (sample + (1 + overshoot) * moved).detach().requires_grad_()
            f = weight @ x + bias
            if int(f.argmax()) != start:
                break
        distances.append(float(moved.norm()))
        classes.append(int(f.argmax()))
    return np.array(distances), np.array(classes)


def dense_adjacency(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalized features, and A [N, N] with scaled columns instead of a product with a diagonal matrix."""
    x = torch.nn.functional.normalize(features, dim=1)
    a = x @ x.T
    a.fill_diagonal_(0)
    a /= a.sum(dim=0)
    a.diagonal().add_(1)
    return x, a


def dense_gcn(
    features: NDArray[Any],
    labeled: NDArray[np.bool_],
    start: NDArray[Any],
    masks: Iterable[NDArray[Any]],
    *,
    hidden: int = 128,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """GCNAL's network on a dense adjacency matrix, by autograd.

    Returns scores [N], hidden features [N, hidden] and logits [N].

    Parameters
    ----------
    features : float array [N, D]
    labeled : bool array [N]
    start : float array [hidden * D + 2 * hidden + 1]
        Initial parameters, as :mod:`rlmba.kernels.sequential_gcn.spec` lays them out.
    masks : iterable of float arrays [N, hidden]
        Factors of the hidden features, one mask for each epoch.
    """
    x, a = dense_adjacency(torch.from_numpy(features))
    theta = torch.from_numpy(start).to(x.dtype)
    cut = hidden * features.shape[1]
    w1 = theta[:cut].reshape(hidden, -1).T.contiguous().requires_grad_()
    b1 = theta[cut : cut + hidden].clone().requires_grad_()
    w2 = theta[cut + hidden : -1, None].clone().requires_grad_()
    b2 = theta[-1:].clone().requires_grad_()
    optimizer = torch.optim.Adam([w1, b1, w2, b2], lr=1e-3, weight_decay=5e-4)
    known = torch.from_numpy(labeled)
    for mask in masks:
        h = torch.relu(a @ (x @ w1) + b1) * torch.from_numpy(mask)
        s = torch.sigmoid(a @ (h @ w2) + b2)[:, 0]
        loss = -torch.log(s[known]).mean() - 1.2 * torch.log(1 - s[~known]).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        h = torch.relu(a @ (x @ w1) + b1)
        logits = (a @ (h @ w2) + b2)[:, 0]
        return torch.sigmoid(logits).numpy(), h.numpy(), logits.numpy()


def dirichlet_variances(
    logits: Sequence[torch.Tensor], weights: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Eq 3 and 4: the variance of the fused alpha [N], and of each modality's alpha [N, M]."""

    def variance(alpha: torch.Tensor) -> torch.Tensor:
        total = alpha.sum(1, keepdim=True)
        return (alpha * (total - alpha) / (total**2 * (total + 1))).mean(1)

    wide = torch.float64 if logits[0].dtype == torch.float64 else torch.float32
    evidence = [torch.nn.functional.softplus(z.to(wide)) for z in logits]
    fused = sum((w * e for w, e in zip(weights, evidence, strict=True)), torch.ones((), dtype=wide))
    return variance(fused), torch.stack([variance(1 + e) for e in evidence], dim=1)


def minmax(x: torch.Tensor) -> torch.Tensor:
    """Scale columns of [N] or [N, M] to [0, 1]; NaN for constant columns."""
    low, high = torch.aminmax(x, dim=0)
    return (x - low) / (high - low)


def fused_score(
    logits: Sequence[torch.Tensor], weights: Sequence[float], distances: torch.Tensor
) -> torch.Tensor:
    """Eq 6 with beta = 1: float [N]."""
    return normalized_score(dirichlet_variances(logits, weights)[1], distances, weights)


def normalized_score(
    uncertainty: torch.Tensor, distances: torch.Tensor, weights: Sequence[float]
) -> torch.Tensor:
    """Eq 6 with beta = 1 from given uncertainties [N, M] and distances [N]: float [N]."""
    score, unit = minmax(distances), minmax(uncertainty)
    for m, weight in enumerate(weights):
        score = score + weight * unit[:, m]
    return score


def nearest_by_product(
    x: torch.Tensor, centers: torch.Tensor, rows: int = 65_536
) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared distance to the nearest center and its index, by a product in the dtype of ``x``."""
    squares = (centers.float() ** 2).sum(1)
    squared, labels = [], []
    for part in (x[begin : begin + rows] for begin in range(0, len(x), rows)):
        best = (squares - 2 * (part @ centers.T).float()).min(dim=1)
        squared.append(best.values + (part.float() ** 2).sum(1))
        labels.append(best.indices)
    return torch.cat(squared).clamp_min_(0), torch.cat(labels)


def kmeans_one_a_pass(
    x: torch.Tensor, k: int, *, steps: int = 5, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """k-means++ seeding with one center per pass over the data, and Lloyd steps by index_add.

    Parameters
    ----------
    x : float tensor [N, D]
    k : int
    steps : int
    seed : int

    Returns
    -------
    (float32 tensor [k, D], int64 tensor [N], float32 tensor [N])
        Centers, and the label and distance of each row.
    """
    centers = x[kmeans_plusplus_one_a_pass(x, k, seed=seed)].float()
    squared, labels = nearest_by_product(x, centers.to(x.dtype))
    for _ in range(steps):
        sums = torch.zeros_like(centers).index_add_(0, labels, x.float())
        counts = torch.bincount(labels, minlength=k)[:, None]
        centers = torch.where(counts > 0, sums / counts.clamp_min(1), centers)
        squared, labels = nearest_by_product(x, centers.to(x.dtype))
    return centers, labels, squared.sqrt()


def kmeans_plusplus_one_a_pass(x: torch.Tensor, k: int, *, seed: int = 0) -> torch.Tensor:
    """k-means++ on rows of ``x`` with one pass per center: int64 [k], on the CPU."""
    generator = torch.Generator(x.device).manual_seed(seed)
    norms = (x.float() ** 2).sum(1)
    drawn = [_one_of(torch.ones_like(norms), generator)]
    squared = torch.full_like(norms, torch.inf)
    while len(drawn) < k:
        last = drawn[-1]
        to_last = norms + norms[last] - 2 * (x @ x[last]).float()
        torch.minimum(squared, to_last.clamp_min_(0), out=squared)
        squared[last] = 0
        drawn.append(_one_of(squared, generator))
    return torch.tensor(drawn)


def rlmba_selection(
    fused_features: torch.Tensor,
    logits: Sequence[torch.Tensor],
    weights: Sequence[float],
    n: int,
    *,
    kappa: int = 5,
    seed: int = 0,
) -> torch.Tensor:
    """The selection of a round (Eq 4 to 7, 10) with an untrained policy: int64 [n].

    k-means of the fused features, the score, the kappa n best candidates, and a draw without replacement
    with probabilities proportional to exp(q), by Gumbel noise.
    """
    distances = kmeans_one_a_pass(fused_features, n, seed=seed)[2]
    score = fused_score(logits, weights, distances)
    values, candidates = torch.topk(score, min(kappa * n, len(score)))
    z = (values - values.mean()) / values.std()
    generator = torch.Generator(z.device).manual_seed(seed)
    uniform = torch.rand(len(z), generator=generator, device=z.device)
    return candidates[torch.topk(z - torch.log(-torch.log(uniform)), n).indices]


def herding_in_blocks(
    features: NDArray[Any] | torch.Tensor, n: int, radius: float, block: int = 1024
) -> NDArray[np.int64]:
    """Greedy herding that computes the gains of all rows for every pick, in blocks of columns.

    Parameters
    ----------
    features : float array [N, D]
    n : int
    radius : float
    block : int
        Columns of kernels in memory at once.

    Returns
    -------
    int64 array [n]
        Positions in picked order.
    """
    x = torch.as_tensor(features)
    norms = (x * x).sum(1)

    def affinity(columns: slice | list[int]) -> torch.Tensor:
        squared = norms[:, None] + norms[columns] - 2 * x @ x[columns].T
        return torch.exp(-squared.clamp(min=0) / radius**2)

    covered, picks = torch.zeros_like(norms), []
    for _ in range(n):
        gains = torch.cat(
            [
                (affinity(slice(begin, begin + block)) - covered[:, None]).clamp(min=0).sum(0)
                for begin in range(0, len(x), block)
            ]
        )
        gains[picks] = -1
        picks.append(int(gains.argmax()))
        covered = torch.maximum(covered, affinity([picks[-1]])[:, 0])
    return np.array(picks)
