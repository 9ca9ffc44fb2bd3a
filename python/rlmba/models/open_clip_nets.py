"""open_clip's networks: the text tower and the image tower, used as a pair."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlmba.data.base import Modality
from rlmba.data.media.open_clip_text import open_clip_network
from rlmba.errors import UsageError
from rlmba.models.backbone import Backbone
from rlmba.models.blueprint import blueprint_in_use
from rlmba.models.registry import register_family
from rlmba.models.weights import (
    RANDOM,
    Request,
    as_path,
    few,
    hub_file,
    load_state,
    read_state,
    unwrapped,
)

__all__ = ["OpenClipImage", "OpenClipText"]

_FILE = "open_clip_model.safetensors"


class _Tower(Backbone):
    """One tower of a network of open_clip, with the projection into the common space.

    Parameters
    ----------
    modality : Modality
        Its kind selects the tower; the other tower is discarded.
    name : str
        open_clip's name of the network and, after "/", of its weights: "ViT-B-32/openai".
    weights : str or None
        A file with the network's state dict, or "random". None uses those of ``name``.
    frozen : bool
        See :class:`~rlmba.models.backbone.Backbone`.
    """

    def __init__(
        self, modality: Modality, name: str, *, weights: str | None = None, frozen: bool = False
    ) -> None:
        super().__init__(modality, frozen=frozen)
        encoder = f"open_clip:{name}"
        owner = f"encoder {encoder!r} of {modality.name!r}"
        library, architecture = open_clip_network(owner, name)
        tag = name.partition("/")[2]
        published = library.get_pretrained_cfg(architecture, tag) if tag else {}
        image = modality.kind == "image"
        with _without_warnings():  # that there are no weights: they are loaded below
            network = library.create_model(
                architecture,
                load_weights=False,
                pretrained_text=False,
                force_quick_gelu=bool(published.get("quick_gelu")),
                force_image_size=modality.shape[1:] if image else None,
            )
        if weights != RANDOM and blueprint_in_use() is None:
            tags = library.list_pretrained_tags_by_model(architecture)
            request = Request(encoder, modality.name, str(weights or tag), f"one of {tags}")
            path = _find(request, weights, published)
            state = unwrapped(read_state(path), set(network.state_dict()))
            if image:
                library.model.resize_pos_embed(state, network)
            missing = load_state(network, state, path, spare=lambda key: key.endswith("_ids"))
            if missing:
                raise UsageError(
                    f"weights {path}: expected those of {architecture}, but they lack {few(missing)}"
                )
            if image:
                self.set_standardization(
                    published.get("mean") or network.visual.image_mean,
                    published.get("std") or network.visual.image_std,
                )
        self.network = network
        self.prepare(encoder)
        self.finish(encoder)

    def prepare(self, encoder: str) -> None:
        """Check the modality, and discard the other tower."""
        raise NotImplementedError

    @classmethod
    def weight_files(
        cls, modality: Modality, *member: str, weights: str | None = None, **options: Any
    ) -> tuple[Path, ...] | None:
        """See :meth:`rlmba.models.Encoder.weight_files`; known for a file."""
        del modality, member, options
        if weights == RANDOM:
            return None
        return None if weights is None else (Path(weights).expanduser(),)


@register_family("open_clip", kinds=["image"])
class OpenClipImage(_Tower):
    """The modality's tower of a network of open_clip, with projection, by NAME/WEIGHTS."""

    def prepare(self, encoder: str) -> None:  # noqa: ARG002 - the text tower's messages need it
        """Keep the image tower alone."""
        self.network = self.network.visual

    def features(self, x: Tensor) -> Tensor:
        """Map [n, C, H, W] to [n, out_features]."""
        y: Tensor = self.network(x)
        return y


@register_family("open_clip", kinds=["tokens"])
class OpenClipText(_Tower):
    """The modality's tower of a network of open_clip, with projection, by NAME/WEIGHTS."""

    @classmethod
    def tokenizer_name(cls, *member: str, **options: Any) -> str | None:
        """See :meth:`rlmba.models.Encoder.tokenizer_name`."""
        del options
        return f"open_clip:{member[0].partition('/')[0]}"

    def prepare(self, encoder: str) -> None:
        """Check the vocabulary and the length, and discard the image tower."""
        # Towers of transformers mask their own padding, and take texts of any length.
        config = getattr(getattr(self.network, "text", None), "config", None)
        self.pad = 0 if config is None else int(config.pad_token_id or 0)
        self.length = 0 if config is not None else int(self.network.context_length)
        size, most = int(self.network.vocab_size), int(self.network.context_length)
        given = self.modality
        if given.vocabulary is None or given.vocabulary > size or 0 < most < given.shape[0]:
            raise UsageError(
                f"encoder {encoder!r}: expected modality {given.name!r} to have at most "
                f"{most} tokens of a vocabulary of at most {size}, got {given.shape[0]} of "
                f"{given.vocabulary}; use the tokenizer of these weights, with "
                f"dataset_options.tokenizer={encoder.partition('/')[0]}"
            )
        del self.network.visual

    def features(self, x: Tensor) -> Tensor:
        """Map token ids [n, T] to [n, out_features]."""
        ids = x.masked_fill(x == self.modality.padding, self.pad)
        fill = ids.new_zeros((x.shape[0], max(0, self.length - x.shape[1])))
        y: Tensor = self.network.encode_text(torch.cat([ids, fill], dim=1))
        return y


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _find(request: Request, weights: str | None, published: dict[str, Any]) -> Path:
    """Find the file of the weights, from disk if possible."""
    if weights is not None:
        path = as_path(weights)
        if path is None or not path.is_file():
            raise request.refuse("no such file")
        return path
    repository, _, file = str(published.get("hf_hub") or "").rpartition("/")
    if not repository:
        raise request.refuse("open_clip publishes none under this name on the hub")
    return hub_file(request, repository, file or _FILE)
