"""SoundNet's first five layers, for waveforms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rlmba import packaged_weights
from rlmba.data.base import Modality
from rlmba.errors import UsageError
from rlmba.models.backbone import Backbone
from rlmba.models.blueprint import blueprint_in_use
from rlmba.models.registry import register_encoder
from rlmba.models.weights import RANDOM
from rlmba.reading.pickled_arrays import read_pickled_arrays

__all__ = ["SoundNet"]

_NAME = "soundnet"
_RATE = 22_050
_PACKAGED = "packaged"

# Filters, kernel, padding, and kernel and stride of the pooling. All convolutions have stride 2.
_LAYERS = (
    (16, 64, 32, (8, 8)),
    (32, 32, 16, (8, 8)),
    (64, 16, 8, None),
    (128, 8, 4, None),
    (256, 4, 2, None),
)


@register_encoder(_NAME, kinds=["waveform"])
class SoundNet(Backbone):
    """SoundNet: mean and maximum over time of its fifth layer, 512 values.

    Parameters
    ----------
    modality : Modality
        Of kind "waveform", with values in [-1, 1]. It is resampled to 22,050 samples per second, which is
        also assumed if its rate is unknown. Waveforms shorter than a second are repeated to a second.
    weights : str
        "packaged": those of the package soundnet. Otherwise a path of its file ``sound8.npy``, or
        "random".
    frozen : bool
        See :class:`~rlmba.models.backbone.Backbone`.

    Notes
    -----
    Aytar, Vondrick and Torralba, "SoundNet: Learning Sound Representations from Unlabeled Video" (2016):
    the network with eight layers. The file is a pickle, which is read as data; no code in it runs.
    """

    def __init__(
        self, modality: Modality, *, weights: str = _PACKAGED, frozen: bool = False
    ) -> None:
        super().__init__(modality, frozen=frozen)
        layers: list[nn.Module] = []
        before = 1
        for filters, kernel, padding, pool in _LAYERS:
            layers += [nn.Conv1d(before, filters, kernel, stride=2, padding=padding)]
            layers += [nn.BatchNorm1d(filters), nn.ReLU()]
            layers += [] if pool is None else [nn.MaxPool1d(*pool)]
            before = filters
        self.network = nn.Sequential(*layers)
        if weights != RANDOM and blueprint_in_use() is None:
            self._load(_file(weights))
        from torchaudio.transforms import Resample  # takes long to import

        rate = modality.sample_rate or _RATE
        self.resample = Resample(round(rate), _RATE)
        self.finish(_NAME)

    def _load(self, path: Path) -> None:
        found = read_pickled_arrays(path)
        layers = list(self.network)
        convolutions = [layer for layer in layers if isinstance(layer, nn.Conv1d)]
        norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm1d)]
        with torch.no_grad():
            for i, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True), 1):
                for name, target in {
                    "weights": convolution.weight,
                    "biases": convolution.bias,
                    "gamma": norm.weight,
                    "beta": norm.bias,
                    "mean": norm.running_mean,
                    "var": norm.running_var,
                }.items():
                    assert target is not None
                    value = _tensor(found, f"conv{i}", name, path)
                    if name == "weights":  # [kernel, 1, in, out]
                        value = value.squeeze(1).permute(2, 1, 0) if value.ndim == 4 else value
                    if value.shape != target.shape:
                        raise UsageError(
                            f"encoder {_NAME!r}: weights {path}: expected conv{i} {name} of shape "
                            f"{tuple(target.shape)}, got {tuple(value.shape)}; give SoundNet's sound8.npy"
                        )
                    target.copy_(value)

    def features(self, x: Tensor) -> Tensor:
        """Map waveforms [n, T] to [n, 512]."""
        x = self.resample(x)
        if x.shape[1] < _RATE:
            x = x.repeat(1, -(-_RATE // x.shape[1]))[:, :_RATE]
        y: Tensor = self.network(256 * x[:, None])  # the range that the weights were trained with
        return torch.cat([y.mean(dim=2), y.amax(dim=2)], dim=1)

    @classmethod
    def expected_rate(cls, *member: str, **options: Any) -> float:
        """See :meth:`rlmba.models.Encoder.expected_rate`: 22,050, to which others are resampled."""
        del member, options
        return float(_RATE)

    @classmethod
    def weight_files(
        cls, modality: Modality, *member: str, weights: str = _PACKAGED, **options: Any
    ) -> tuple[Path, ...] | None:
        """See :meth:`rlmba.models.Encoder.weight_files`."""
        del modality, member, options
        if weights == RANDOM:
            return None
        return (
            packaged_weights.find(_NAME) if weights == _PACKAGED else (Path(weights).expanduser(),)
        )


def _file(weights: str) -> Path:
    return (
        packaged_weights.require(_NAME)[0] if weights == _PACKAGED else Path(weights).expanduser()
    )


def _tensor(found: dict[str, Any], layer: str, name: str, path: Path) -> Tensor:
    part = found.get(layer)
    value = part.get(name) if isinstance(part, dict) else None
    if not hasattr(value, "dtype"):
        raise UsageError(
            f"encoder {_NAME!r}: weights {path}: expected an array {name} of {layer}, found none; give "
            "SoundNet's sound8.npy"
        )
    return torch.from_numpy(value)
