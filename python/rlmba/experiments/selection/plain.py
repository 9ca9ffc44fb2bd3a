"""Selections as active-learning code usually has them, in torch: what ours are timed beside."""

from __future__ import annotations

from collections.abc import Iterable
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
    "gradient_one_a_pass",
    "k_center_one_a_pass",
]


def gradient_one_a_pass(
    residuals: NDArray[Any], features: NDArray[Any], n: int, seed: int = 0
) -> NDArray[np.int64]:
    """k-means++ on a_i (x) z_i, factored, one center a pass over the data, in torch.

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
    a, z = torch.from_numpy(residuals), torch.from_numpy(features)
    norms = (a * a).sum(1) * (z * z).sum(1)
    generator = torch.Generator().manual_seed(seed)
    drawn = [int(norms.argmax())]
    squared = torch.full((len(a),), torch.inf)
    while len(drawn) < n:
        last = drawn[-1]
        to_last = norms + norms[last] - 2 * (a @ a[last]) * (z @ z[last])
        torch.minimum(squared, to_last.clamp_min_(0), out=squared)
        squared[last] = 0
        cumulated = squared.double().cumsum(0)
        target = torch.rand(1, generator=generator, dtype=torch.float64) * cumulated[-1]
        drawn.append(min(int(torch.searchsorted(cumulated, target, right=True)), len(a) - 1))
    return np.array(drawn)


CDIST_MODES = {
    "default": "use_mm_for_euclid_dist_if_necessary",
    "differences": "donot_use_mm_for_euclid_dist",
}


def k_center_one_a_pass(
    features: NDArray[Any], labeled: NDArray[Any], n: int, mode: str = "differences"
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Greedy k-center by torch.cdist, one center a pass; distances to labeled rows in chunks of rows.

    Parameters
    ----------
    features : float array [N, D]
    labeled : float array [L, D]
    n : int
    mode : {"default", "differences"}
        torch.cdist by its own choice, a matrix product for many centers, or by differences, which is
        faster here and more exact.

    Returns
    -------
    (int64 array [n], float64 array [n])
        Positions, and the distance of each when it was picked.
    """
    x, given = torch.from_numpy(features), torch.from_numpy(labeled)
    how = CDIST_MODES[mode]
    parts = [x[begin : begin + 4096] for begin in range(0, len(x), 4096)]
    nearest = torch.cat([torch.cdist(part, given, compute_mode=how).amin(1) for part in parts])
    picks, reach = [], []
    for _ in range(n):
        pick = int(nearest.argmax())
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
    """DeepFool as published: one sample at a time, one backward pass a class.

    Returns
    -------
    (float64 array [N], int64 array [N])
        Length of the step, and the class it meets.
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
    """Normalized features and A [N, N], its columns scaled in place of a product with a diagonal."""
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
) -> tuple[NDArray[Any], NDArray[Any]]:
    """GCNAL's network on a dense adjacency, by autograd: scores [N] and hidden features [N, hidden].

    Parameters
    ----------
    features : float array [N, D]
    labeled : bool array [N]
    start : float array [hidden * D + 2 * hidden + 1]
        Initial parameters, as :mod:`rlmba.kernels.sequential_gcn.spec` lays them out.
    masks : iterable of float arrays [N, hidden]
        What each epoch multiplies the hidden features with; as many epochs as masks.
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
        return torch.sigmoid(a @ (h @ w2) + b2)[:, 0].numpy(), h.numpy()
