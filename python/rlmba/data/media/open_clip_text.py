"""The tokenizers of open_clip's networks, and the networks' names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

from rlmba.errors import UsageError

__all__ = ["OpenClipTokenizer", "open_clip_network"]


class OpenClipTokenizer:
    """The tokenizer of a network of open_clip: rows of one length, with the network's own padding.

    Parameters
    ----------
    name : str
        open_clip's name of the network; what follows a "/" is ignored.
    read : callable
        ``read(repository, load)`` returns ``load(**options)``, or raises why the files of a tokenizer of
        transformers are not available. It is called for networks with such a tokenizer.

    Attributes
    ----------
    length : int
        Number of tokens of every text.
    vocabulary : int
        All ids are smaller than this number.
    """

    def __init__(self, name: str, read: Callable[[str, Callable[..., Any]], Any]) -> None:
        library, network = open_clip_network(f"tokenizer 'open_clip:{name}'", name)
        repository = library.get_model_config(network)["text_cfg"].get("hf_tokenizer_name")
        if repository:
            self._tokenizer: Any = read(
                repository,
                lambda **options: library.get_tokenizer(
                    network, trust_remote_code=False, **options
                ),
            )
            inner = self._tokenizer.tokenizer
            self.vocabulary = max(len(inner), 1 + max(inner.get_vocab().values(), default=0))
        else:
            self._tokenizer = library.get_tokenizer(network)
            self.vocabulary = int(self._tokenizer.vocab_size)
        self.length = int(self._tokenizer.context_length)

    def __call__(self, texts: Sequence[str], length: int) -> list[list[int]]:
        """Ids of each text, ``length`` of them, padding included."""
        rows: list[list[int]] = self._tokenizer(list(texts), context_length=length).tolist()
        return rows


def open_clip_network(owner: str, name: str) -> tuple[Any, str]:
    """The library and a network's name without that of its weights.

    Parameters
    ----------
    owner : str
        What needs the library, for messages.
    name : str
        "NAME" or "NAME/WEIGHTS".

    Raises
    ------
    UsageError
        If open_clip is not installed, or has no such network.
    """
    try:
        import open_clip
    except ImportError as error:
        raise UsageError(f'{owner} needs open_clip; run pip install "rlmba[open-clip]"') from error
    network = name.partition("/")[0]
    known = open_clip.list_models()
    if network not in known:
        near = difflib.get_close_matches(network, known, 3)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise UsageError(
            f"{owner}: open_clip has no network {network!r}; {hint}open_clip.list_models() lists the names"
        )
    return open_clip, network
