"""The forward pass of several classifiers of one shape, with stacked weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn import functional

from rlmba.models.classifier import ModelOutput, MultimodalClassifier
from rlmba.models.fusion import bounded, dirichlet
from rlmba.types import MULTIMODAL

__all__ = ["stacked_forward"]


def stacked_forward(
    model: MultimodalClassifier,
    state: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor],
    masks: Sequence[Tensor],
) -> ModelOutput:
    """Run K classifiers on their own inputs, as each of them would in training mode.

    Projections and heads are batched matrix products, which have less overhead than ``torch.func.vmap``;
    only encoders with weights use it.

    Parameters
    ----------
    model : MultimodalClassifier
        One of the K classifiers, for the structure; its weights are not used.
    state : mapping of name to tensor [K, ...]
        Stacked parameters and buffers by their names in ``model.state_dict()``.
    inputs : mapping of modality to tensor ``[K, n, *shape]``
    masks : sequence of tensor [K, n, width]
        Dropout masks of the modality heads and of the fused head, if there is one; empty without
        dropout.

    Returns
    -------
    ModelOutput
        With a leading axis K in each array. Every sample has every modality.
    """
    features = {
        name: _projected(model, state, m, _encoded(model, state, m, inputs[name]))
        for m, name in enumerate(model.names)
    }
    stacked = list(features.values())
    if model.fusion == "concat":
        fused = torch.cat(stacked, dim=2)
    else:
        weights = state["fusion_weights"].T[:, :, None, None]
        fused = (weights * torch.stack(stacked)).sum(dim=0)
    places = [f"heads.{m}" for m in range(len(stacked))]
    dropped = stacked
    if model.fused_head is not None:
        places, dropped = [*places, "fused_head"], [*stacked, fused]
    if masks:
        dropped = [f * mask for f, mask in zip(dropped, masks, strict=True)]
    judged = [_linear(state, place, f) for place, f in zip(places, dropped, strict=True)]
    logits = dict(zip(model.names, judged, strict=False))
    if (evidence := model.evidence) is None:
        return ModelOutput(features, logits, fused, judged[-1])
    logits = {name: bounded(z, evidence) for name, z in logits.items()}
    alphas = vmap(lambda z, w: dirichlet(z, w, None, evidence))(logits, state["fusion_weights"])
    fused_logits = alphas[MULTIMODAL].log() if model.fused_head is None else judged[-1]
    return ModelOutput(features, logits, fused, fused_logits, alphas)


def _encoded(model: MultimodalClassifier, state: Mapping[str, Tensor], m: int, x: Tensor) -> Tensor:
    """Features [K, n, D] of the encoders of modality number m."""
    encoder, prefix = model.encoders[m], f"encoders.{m}."
    if x.is_floating_point():
        x = x.to(state["fusion_weights"].dtype)
    own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if not own:
        y: Tensor = encoder(x.flatten(0, 1))
        return y.reshape(*x.shape[:2], -1)
    each: Tensor = vmap(lambda weights, rows: functional_call(encoder, weights, (rows,)))(own, x)
    return each


def _projected(
    model: MultimodalClassifier, state: Mapping[str, Tensor], m: int, x: Tensor
) -> Tensor:
    """Features [K, n, d] of the projections of modality number m: linear, LayerNorm, ReLU."""
    place = f"projections.{m}"
    y = functional.layer_norm(_linear(state, f"{place}.0", x), (model.width,))
    scale, shift = state[f"{place}.1.weight"], state[f"{place}.1.bias"]
    return torch.addcmul(shift[:, None], y, scale[:, None]).relu()


def _linear(state: Mapping[str, Tensor], place: str, x: Tensor) -> Tensor:
    """K linear layers on x [K, n, D]."""
    weight, bias = state[f"{place}.weight"], state[f"{place}.bias"]
    return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))
