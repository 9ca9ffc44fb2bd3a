"""What a user's model says of samples, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlmba.errors import DataError, ShapeError
from rlmba.kernels.common.arrays import is_array, to_host
from rlmba.types import MULTIMODAL, LinearHead, PoolOutputs

__all__ = ["by_modality", "checked_outputs", "host_array"]

_OUTPUTS = "outputs of the model: "
_KEYS = ("features", "logits", "head", "dropout_logits", "present")


def checked_outputs(
    given: Any, ids: NDArray[np.str_], names: tuple[str, ...], classes: int
) -> tuple[PoolOutputs, LinearHead | None]:
    """What :meth:`FitAndOutputs.outputs` returned, as outputs and a head.

    Parameters
    ----------
    given : anything
    ids : str array [n]
        The samples that were asked for.
    names : tuple of str
        The modalities.
    classes : int
        C.

    Raises
    ------
    ShapeError, DataError
        If it is not what :meth:`FitAndOutputs.outputs` promises.
    """
    if isinstance(given, PoolOutputs):
        given = _as_mapping(given)
    if not isinstance(given, Mapping) or not {"features", "logits"} <= set(given):
        found = list(given) if isinstance(given, Mapping) else type(given).__name__
        raise DataError(f"{_OUTPUTS}expected a mapping with 'features' and 'logits', got {found}")
    if unknown := sorted(set(map(str, given)) - set(_KEYS)):
        raise DataError(f"{_OUTPUTS}expected the keys {list(_KEYS)}, got {unknown[0]!r} as well")
    features = by_modality(given["features"], f"{_OUTPUTS}features", names, ids)
    logits = by_modality(given["logits"], f"{_OUTPUTS}logits", names, ids, classes)
    fused = features.pop(MULTIMODAL, None)
    if fused is None:
        fused = np.concatenate([features[m] for m in names], axis=1)
    outputs = PoolOutputs(
        ids=ids,
        features={m: features[m] for m in names},
        logits={m: logits[m] for m in names},
        fused_features=fused,
        fused_logits=logits[MULTIMODAL] if MULTIMODAL in logits else logits[names[0]],
        present=_present(given.get("present"), len(ids), len(names)),
        dropout_logits=_dropout_logits(given.get("dropout_logits"), len(ids), classes),
    )
    return outputs, _head(given.get("head"), classes, fused.shape[1])


def by_modality(
    given: Any,
    what: str,
    names: tuple[str, ...],
    ids: NDArray[np.str_],
    classes: int | None = None,
) -> dict[str, NDArray[Any]]:
    """Checked float arrays by modality, and the fused one under "mm" where it is given.

    They are logits [n, C] where ``classes`` is given, otherwise features [n, d]. Errors begin with ``what``.
    """
    if not isinstance(given, Mapping) and len(names) > 1:
        raise DataError(f"{what}: expected a mapping of {list(names)} to arrays, got one array")
    by_name = dict(given) if isinstance(given, Mapping) else {names[0]: given}
    wanted = {*names, *([MULTIMODAL] if classes and len(names) > 1 else [])}
    if not wanted <= set(by_name) or set(by_name) - wanted - {MULTIMODAL}:
        raise DataError(f"{what}: expected the keys {sorted(wanted)}, got {list(by_name)}")
    return {
        name: _rows(value, f"{what} of {name!r}", ids, classes) for name, value in by_name.items()
    }


def _rows(given: Any, what: str, ids: NDArray[np.str_], classes: int | None) -> NDArray[Any]:
    array = host_array(given, what)
    if array.ndim != 2 or len(array) != len(ids) or (classes and array.shape[1] != classes):
        columns = " and a column for each class, with or without labels" if classes else ""
        raise ShapeError(
            f"{what}: expected shape [{len(ids)}, {classes or 'D'}], a row for each sample{columns}, got "
            f"{list(array.shape)}"
        )
    return _finite(array, what, lambda bad: f"the row of sample {str(ids[bad[0]])!r}")


def _finite(array: NDArray[Any], what: str, where: Callable[[Any], str]) -> NDArray[Any]:
    """Finite float32 or float64 numbers."""
    if array.dtype.kind not in "fiu":
        raise DataError(f"{what}: expected numbers, got dtype {array.dtype}")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32)
    if not (finite := np.isfinite(array)).all():
        bad = np.argwhere(~finite)[0]
        raise DataError(
            f"{what}: expected finite numbers, {where(bad)} holds NaN or infinity; look at this sample's "
            "input, lower the learning rate, or clip probabilities before taking their logarithm"
        )
    return array


def _present(given: Any, n: int, m: int) -> NDArray[np.bool_] | None:
    if given is None:
        return None
    array = host_array(given, f"{_OUTPUTS}present")
    if array.shape != (n, m) or array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise ShapeError(
            f"{_OUTPUTS}present: expected a boolean array [{n}, {m}], a row for each sample and a column for "
            f"each modality, got dtype {array.dtype} and shape {list(array.shape)}"
        )
    return array.astype(np.bool_)


def _dropout_logits(given: Any, n: int, classes: int) -> NDArray[Any] | None:
    if given is None:
        return None
    what = f"{_OUTPUTS}dropout_logits"
    array = host_array(given, what)
    if array.ndim != 3 or len(array) < 2 or array.shape[1:] != (n, classes):
        raise ShapeError(
            f"{what}: expected shape [K, {n}, {classes}] with K >= 2 passes, got {list(array.shape)}"
        )
    return _finite(array, what, lambda bad: f"pass {bad[0]}, row {bad[1]}")


def _head(given: Any, classes: int, width: int) -> LinearHead | None:
    if given is None:
        return None
    what = f"{_OUTPUTS}head"
    head = given if isinstance(given, LinearHead) else None
    if head is None:
        try:
            weight, bias = given
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{what}: expected (weight [C, D], bias [C]), got {type(given).__name__}"
            ) from error
        head = LinearHead(
            *(_finite(host_array(a, what), what, lambda _: "it") for a in (weight, bias))
        )
    if head.weight.shape != (classes, width):
        raise ShapeError(
            f"{what}: expected weight [{classes}, {width}] for these logits and features, got "
            f"{list(head.weight.shape)}"
        )
    return head


def _as_mapping(outputs: PoolOutputs) -> dict[str, Any]:
    given = {
        "features": {**outputs.features, MULTIMODAL: outputs.fused_features},
        "logits": {**outputs.logits, MULTIMODAL: outputs.fused_logits},
        "present": outputs.present,
        "dropout_logits": outputs.dropout_logits,
    }
    return {k: v for k, v in given.items() if v is not None}


def host_array(given: Any, what: str) -> NDArray[Any]:
    """An array of any library in host memory, without its gradient; a list as NumPy reads it.

    Raises
    ------
    ShapeError
        If it is no array; the message begins with ``what``.
    """
    if isinstance(given, torch.Tensor):
        given = given.detach()
    try:
        return to_host(given, what) if is_array(given) else np.asarray(given)
    except ValueError as error:  # rows of different lengths
        raise ShapeError(
            f"{what}: expected an array with rows of the same shape ({error})"
        ) from error
