"""Weights from local files, a library's cache or the library's server."""

from __future__ import annotations

import contextlib
import pickle
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from rlmba.errors import DataError, UsageError
from rlmba.hub import TIMEOUT, out_of_reach

__all__ = [
    "RANDOM",
    "Request",
    "as_path",
    "cached_file",
    "connection_timeout",
    "few",
    "from_hub",
    "hub_file",
    "load_state",
    "read_state",
    "unwrapped",
]

RANDOM = "random"
"""Name of random initial weights; nothing is read from disk or network."""

_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
_WRAPPINGS = ("state_dict", "model_state_dict", "model_state", "model")
_PREFIXES = ("module.", "encoder.", "backbone.", "model.", "network.")

_T = TypeVar("_T")


class Request(NamedTuple):
    """A request for weights, described for messages."""

    encoder: str
    modality: str
    weights: str
    named: str
    what: str = "weights"

    def refuse(self, why: str) -> UsageError:
        """Return the error for unavailable weights, with the three ways to get weights."""
        ways = f"{self.named} that is cached here or can be fetched, a path on this machine"
        if self.what == "weights":
            ways += f", or {RANDOM!r} (option weights)"
        return UsageError(
            f"encoder {self.encoder!r} of {self.modality!r}: {self.what} {self.weights!r}: {why}. "
            f"Expected {ways}"
        )


def as_path(weights: str) -> Path | None:
    """Return the file or folder that ``weights`` names; None if it is not a path.

    Raises
    ------
    UsageError
        If it can only be a path, and the path does not exist.
    """
    path = Path(weights).expanduser()
    if path.exists():
        return path
    if path.suffix in _SUFFIXES or path.is_absolute() or weights.startswith(("~", "./", "../")):
        raise UsageError(
            f"weights: expected a file or folder, but {path} does not exist; give an existing one, the name "
            f"of published weights, or {RANDOM!r}"
        )
    return None


def read_state(path: Path) -> dict[str, Tensor]:
    """Read tensors from a safetensors file or a state dict saved by torch, possibly nested.

    Raises
    ------
    DataError
        If it cannot be read, or does not hold tensors alone.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path}: expected a state dict of tensors alone, got a damaged file or one that would run "
            "code when read; save model.state_dict()"
        ) from error
    except Exception as error:  # safetensors, zip and torch raise different exceptions
        if isinstance(error, MemoryError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path}: expected a file of weights, but it is damaged: {reason}"
        ) from error
    for key in _WRAPPINGS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
            break
    if not isinstance(state, dict) or not any(isinstance(v, Tensor) for v in state.values()):
        raise DataError(
            f"{path}: expected a state dict, got {type(state).__name__} without tensors"
        )
    if strange := [k for k in state if not isinstance(k, str)]:
        raise DataError(f"{path}: expected a state dict with names as keys, got {strange[0]!r:.60}")
    return state


def unwrapped(
    state: dict[str, Tensor], names: set[str], prefixes: Sequence[str] = _PREFIXES
) -> dict[str, Tensor]:
    """Remove the key prefixes with which most keys match ``names``."""
    best, most = state, len(names & state.keys())
    for prefix in prefixes:
        if any(key.startswith(prefix) for key in state):
            inner = {key.removeprefix(prefix): value for key, value in state.items()}
            candidate = unwrapped(inner, names, prefixes)
            if len(names & candidate.keys()) > most:
                best, most = candidate, len(names & candidate.keys())
    return best


def load_state(
    network: nn.Module,
    state: Mapping[str, Tensor],
    source: object,
    *,
    spare: Callable[[str], bool],
) -> list[str]:
    """Load tensors into a network and return the names of parameters and buffers they lack.

    Parameters
    ----------
    source : object
        Source of the tensors, for messages.
    spare : callable
        Whether a key that is unknown to the network may be ignored.

    Raises
    ------
    UsageError
        If shapes differ, or other unknown keys remain.
    """
    try:
        result = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise UsageError(
            f"weights {source}: expected those of this network, but {few(lines)}"
        ) from error
    left = [k for k in result.unexpected_keys if not spare(k)]
    if left:
        raise UsageError(
            f"weights {source}: expected those of this network, but there are also {few(left)}"
        )
    # Old files lack these counters, which are not used in computations.
    return [
        k for k in result.missing_keys if not k.endswith(("num_batches_tracked", ".position_ids"))
    ]


def few(names: Sequence[str]) -> str:
    """Return the first three items of a list, and the number of other items."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


@contextlib.contextmanager
def connection_timeout() -> Iterator[None]:
    """Limit the wait for a connection in the block to ten seconds."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def from_hub(read: Callable[..., _T], request: Request, spellings: Sequence[str] = ()) -> _T:
    """Let transformers read a folder or a hub name, from disk if possible.

    Parameters
    ----------
    read : callable
        ``read(name, local_files_only=...)``.
    request : Request
        Its ``weights`` are the folder or the name.
    spellings : sequence of str
        Other names under which it may be cached.

    Raises
    ------
    UsageError
        If it is neither on disk nor reachable. This is known after one request, without retries.
    DataError
        If the files on disk are damaged.
    """
    path = as_path(request.weights)
    if path is not None:
        try:
            with _quiet():
                return read(str(path), local_files_only=True)
        except Exception as error:
            raise _translated(error, str(path)) from error
    for name in (request.weights, *spellings):
        cached = _from_cache(read, name)
        if cached is not None:
            return cached
    why = out_of_reach(request.weights)
    if why:
        raise request.refuse(why)
    try:
        with _quiet(bars=True):
            return read(request.weights)
    except OSError as error:
        raise request.refuse(_reason(error)) from error
    except Exception as error:
        raise _translated(error, request.weights) from error


def hub_file(request: Request, repository: str, *names: str) -> Path:
    """Find a file of a repository on the hub: in its cache, or else by downloading it.

    Parameters
    ----------
    request : Request
        For messages.
    repository : str
        Name of the repository.
    *names : str
        The file; any of several if they are cached. The first one is downloaded.

    Raises
    ------
    UsageError
        If it is neither cached nor reachable. This is known after one request, without retries.
    """
    cached = cached_file(repository, *names)
    if cached is not None:
        return cached
    if why := out_of_reach(repository):
        raise request.refuse(why)
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, names[0]))
    except (OSError, ValueError) as error:
        raise request.refuse(_reason(error)) from error


def cached_file(repository: str, *names: str) -> Path | None:
    """Return the first of several files of a repository that is in the hub's cache; None if none is."""
    from huggingface_hub import try_to_load_from_cache

    for name in names:
        try:
            found = try_to_load_from_cache(repository, name)
        except ValueError:  # this cannot be the name of a repository
            return None
        if isinstance(found, str):
            return Path(found)
    return None


def _from_cache(read: Callable[..., _T], name: str) -> _T | None:
    try:
        with _quiet():
            return read(name, local_files_only=True)
    except OSError:
        return None  # not there
    except Exception as error:
        raise _translated(error, f"{name} (cached)") from error


def _translated(error: Exception, source: str) -> Exception:
    if isinstance(error, UsageError | DataError | MemoryError):
        return error
    foreign = ("does not recognize this architecture", "mismatch", "trust_remote_code")
    if any(words in str(error) for words in foreign):
        return UsageError(f"weights {source}: {_reason(error)}")
    return DataError(
        f"weights {source}: expected a model's files, got damaged or incomplete ones: "
        f"{_reason(error)}"
    )


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


@contextlib.contextmanager
def _quiet(*, bars: bool = False) -> Iterator[None]:
    """Silence transformers in the block; relevant problems become our errors."""
    import transformers

    logging: Any = transformers.utils.logging
    level, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)  # transformers may raise its report of keys as an error
    if not bars:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if had_bars:
            logging.enable_progress_bar()
