"""Base class of encoders that wrap another library's network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rlmba.data.base import Modality
from rlmba.errors import UsageError
from rlmba.models.blueprint import Blueprint, blueprint_in_use
from rlmba.models.registry import Encoder, flag
from rlmba.models.weights import few

__all__ = ["Backbone", "parameters_behind"]


class Backbone(Encoder):
    """Base class of encoders that wrap another library's network.

    A subclass builds its network in its constructor, defines :meth:`features`, and finally calls
    :meth:`finish`, which runs the network once. A shape that the network cannot take is thus an
    error at once, the width of the features is measured, and parameters that do not affect the
    features become known.

    Parameters
    ----------
    modality : Modality
        The modality to encode.
    frozen : bool
        No parameter is trained; normalization and dropout always behave as in evaluation.

    Notes
    -----
    If a BatchNorm receives one value per channel in training, for instance in a batch of one
    sample, it cannot standardize by its batch and uses its running statistics, as in evaluation.
    """

    scale: Tensor | None
    shift: Tensor | None

    def __init__(self, modality: Modality, *, frozen: bool) -> None:
        super().__init__()
        self.modality = modality
        self.frozen = flag(frozen, "frozen")
        self.register_buffer("scale", None, persistent=False)
        self.register_buffer("shift", None, persistent=False)
        # Not a ModuleList, because these modules are already part of the network.
        self._lone: tuple[nn.Module, ...] = ()

    def features(self, x: Tensor) -> Tensor:
        """Map a batch in the weights' own standardization to [n, out_features]."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch ``[n, *modality.shape]`` to ``[n, out_features]``."""
        if self.scale is not None and self.shift is not None:
            x = x * self.scale + self.shift
        if self.memory_format is not None:
            x = x.contiguous(memory_format=self.memory_format)
        if not (self._lone and self.training and len(x) == 1):
            return self.features(x)
        for norm in self._lone:
            norm.eval()
        try:
            return self.features(x)
        finally:
            for norm in self._lone:
                norm.train()

    def train(self, mode: bool = True) -> Backbone:
        """Switch to training, unless frozen, or to evaluation."""
        super().train(mode and not self.frozen)
        return self

    def set_standardization(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        """Make :meth:`forward` convert to the standardization that the weights were trained with.

        Parameters
        ----------
        mean, deviation : sequence of float
            Per channel, for values scaled to [0, 1]. If the modality has another number of
            channels, each channel uses the average.
        """
        if blueprint_in_use() is not None:
            return  # it is set by finish
        given = self.modality
        if given.kind not in ("image", "video") or given.mean is None or given.deviation is None:
            return
        channels = given.shape[0]
        if len(mean) not in (1, channels):
            mean, deviation = [sum(mean) / len(mean)], [sum(deviation) / len(deviation)]
        wanted = torch.tensor([mean, deviation], dtype=torch.float64)
        has = torch.tensor([given.mean, given.deviation], dtype=torch.float64)
        scale = (has[1] / wanted[1]).expand(channels)
        shift = ((has[0] - wanted[0]) / wanted[1]).expand(channels)
        if (scale - 1).abs().max() < 1e-6 and shift.abs().max() < 1e-6:
            return
        shape = (channels, *(1 for _ in given.shape[1:]))
        self.scale = scale.float().reshape(shape).clone()
        self.shift = shift.float().reshape(shape).clone()

    def finish(self, name: str, fresh: Iterable[nn.Parameter] = ()) -> None:
        """Run once; then set ``out_features``, the trained parameters, memory format and mode.

        Parameters
        ----------
        name : str
            Name of the network, for messages.
        fresh : iterable of Parameter
            Parameters without loaded weights; it is an error if the features depend on them.

        Raises
        ------
        UsageError
            If the network cannot take the modality's shape, or the features depend on a parameter
            without weights.
        """
        blueprint = blueprint_in_use()
        if blueprint is not None and blueprint.get("scale") is not None:
            self.scale = torch.tensor(blueprint["scale"], dtype=torch.float32)
            self.shift = torch.tensor(blueprint["shift"], dtype=torch.float32)
        norms = [m for m in self.modules() if isinstance(m, _BatchNorm)]
        lone: list[nn.Module] = []

        def look(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if inputs[0].numel() == inputs[0].shape[1]:
                lone.append(norm)

        hooks = [norm.register_forward_pre_hook(look) for norm in norms]
        y = self.dry_run(name)
        for hook in hooks:
            hook.remove()
        used = parameters_behind(y)
        self._lone = tuple(lone)
        self.out_features = int(y.shape[1])
        names = {id(p): n for n, p in self.named_parameters()}
        unset = sorted(names.get(id(p), "?") for p in fresh if id(p) in used)
        if unset:
            raise UsageError(
                f"encoder {name!r} of {self.modality.name!r}: the weights lack {few(unset)}; "
                "they belong to another network"
            )
        for p in self.parameters():
            p.requires_grad_(id(p) in used and not self.frozen)
        if self.memory_format is not None:
            self.to(memory_format=self.memory_format)
        self.train()

    def blueprint(self) -> Blueprint:
        """Return the conversion to the weights' standardization; subclasses add their own entries."""
        if self.scale is None or self.shift is None:
            return {"scale": None, "shift": None}
        return {"scale": self.scale.tolist(), "shift": self.shift.tolist()}

    def drop_unused(self, network: nn.Module, name: str) -> None:
        """Delete a network's children and own parameters that do not affect the features.

        Parameters
        ----------
        network : Module
            Of which other parts, such as the tower of another modality, are not needed.
        name : str
            Its name, for messages.

        Raises
        ------
        UsageError
            As :meth:`dry_run`.
        """
        used = parameters_behind(self.dry_run(name))
        for part, child in list(network.named_children()):
            if not any(id(p) in used for p in child.parameters()):
                delattr(network, part)
        for part, p in list(network.named_parameters(recurse=False)):
            if id(p) not in used:
                delattr(network, part)

    def dry_run(self, name: str) -> Tensor:
        """Features [1, width] of a dummy sample in evaluation mode, with their autograd graph.

        Raises
        ------
        UsageError
            If the network cannot take the modality's shape.
        """
        shape = (1, *self.modality.shape)
        if self.modality.kind == "tokens":
            x = torch.full(shape, (self.modality.vocabulary or 1) - 1, dtype=torch.int64)
        else:
            x = torch.zeros(shape)
        self.eval()
        try:
            with torch.enable_grad():
                y = self.features(x)
        except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(
                f"encoder {name!r} cannot take modality {self.modality.name!r} of shape "
                f"{list(self.modality.shape)}: {str(error).strip() or type(error).__name__}"
            ) from error
        if y.ndim != 2:
            raise UsageError(
                f"encoder {name!r} of {self.modality.name!r}: expected features [n, width], got "
                f"shape {list(y.shape)}; choose another network or pooling"
            )
        return y


def parameters_behind(y: Tensor) -> set[int]:
    """``id`` of every parameter that ``y`` depends on, from the recorded autograd graph."""
    found: set[int] = set()
    seen = set()
    stack = [y.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        stack += [parent for parent, _ in node.next_functions]
    return found
