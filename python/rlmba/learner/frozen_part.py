"""The frozen encoders of a trained network that was loaded without them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from torch import Tensor

from rlmba.errors import CheckpointError
from rlmba.learner.encoders import EncoderFacts, chosen_encoder
from rlmba.models import Encoder, Standardized
from rlmba.training import encoder_identity

if TYPE_CHECKING:
    from rlmba.learner.trained import Trained

__all__ = ["OF_ENCODERS", "FrozenPart", "standardization_in"]

OF_ENCODERS = "encoders."
"""How the names of a network's tensors that belong to encoders begin."""


class FrozenPart:
    """The frozen encoders of a trained network, which are loaded only if they are needed.

    Parameters
    ----------
    facts : mapping of modality to EncoderFacts
        As described in the checkpoint.
    standardization : mapping of modality to (float32 tensor [width], float32 tensor [width])
        Mean and deviation of the features that the network was trained on.
    load : callable
        Loads the network with its encoders.
    """

    def __init__(
        self,
        facts: Mapping[str, EncoderFacts],
        standardization: Mapping[str, tuple[Tensor, Tensor]],
        load: Callable[[], Trained],
    ) -> None:
        self.standardization = standardization
        self._facts = facts
        self._load = load
        self._built: dict[str, Encoder] = {}

    @property
    def facts(self) -> Mapping[str, EncoderFacts]:
        """Facts by modality; once the encoders are loaded, their identities are those of the weights."""
        return self._facts

    def built(self) -> Mapping[str, Encoder]:
        """The encoders by modality, without the standardization.

        Raises
        ------
        CheckpointError
            As :meth:`Trained.load`.
        """
        if not self._built:
            trained = self._load()
            encoders = [cast("Standardized", e).encoder for e in trained.model.encoders]
            self._built = dict(zip(trained.model.names, encoders, strict=True))
            # Features are added under what was loaded, whatever the description says.
            self._facts = {
                m: facts._replace(
                    identity=encoder_identity(
                        self._built[m], chosen_encoder(trained.config.model, m)[1]
                    )
                )
                for m, facts in self._facts.items()
            }
        return self._built


def standardization_in(
    folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, EncoderFacts]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and deviation of every modality's features, among the tensors of a checkpoint's folder.

    Raises
    ------
    CheckpointError
        If one is missing or has another shape.
    """
    found = {}
    for i, (modality, known) in enumerate(facts.items()):
        both = [tensors.get(f"{OF_ENCODERS}{i}.{name}") for name in ("mean", "deviation")]
        shapes = [None if t is None else tuple(t.shape) for t in both]
        if shapes != [(known.width,)] * 2:
            raise CheckpointError(
                f"{folder}: expected mean and deviation of the {known.width} features of {modality!r}, got "
                f"the shapes {shapes}; restore it, or train another round"
            )
        found[modality] = cast("tuple[Tensor, Tensor]", tuple(both))
    return found
