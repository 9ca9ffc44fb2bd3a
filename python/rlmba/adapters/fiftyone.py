"""FiftyOne: select from a dataset or view, and mark the batch in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.adapters.common import READS_FEATURES, class_positions, split, with_inputs
from rlmba.errors import DataError, UsageError
from rlmba.kernels.common.random import Rng
from rlmba.strategies import Strategy
from rlmba.strategies.array_inputs import log_probabilities
from rlmba.strategies.direct import SelectedSamples
from rlmba.strategies.direct import select as select_arrays
from rlmba.strategies.uncertainty import margin_difficulty
from rlmba.types import MULTIMODAL

try:
    import fiftyone as fo
except ImportError as error:
    raise ImportError(
        f'this adapter needs FiftyOne ({error}); pip install "rlmba[fiftyone]"'
    ) from error

__all__ = ["DIFFICULTY", "RANK", "SCORE", "select"]

RANK, SCORE, DIFFICULTY = "rlmba_rank", "rlmba_score", "difficulty"
"""The fields that :func:`select` writes."""

_SHOWN = 20
_OUTPUTS = ("logits", "probabilities")


def select(
    view: Any,
    strategy: str | Strategy,
    n: int,
    *,
    label_field: str | None,
    embeddings: str | Mapping[str, str] | None = None,
    logits: str | Mapping[str, str] | None = None,
    model: Any = None,
    classes: Sequence[str] | None = None,
    tag: str = "rlmba",
    rng: Rng = None,
    **arguments: Any,
) -> SelectedSamples:
    """Select ``n`` unlabeled samples of a FiftyOne dataset or view, and mark them there.

    The batch gets the tag ``tag`` and the fields ``rlmba_rank`` (from 1) and ``rlmba_score``. They are
    removed from other samples of the view, so that they describe the newest batch; another tag for each
    round keeps earlier batches apart. If there are logits or probabilities, each sample of the view gets
    ``difficulty``: 1 - (p_(1) - p_(2)) of the fused softmax, in [0, 1]. Nothing is written if the
    selection fails.

    Parameters
    ----------
    view : fiftyone.Dataset or fiftyone.DatasetView
        The pool. Of a grouped dataset or view, it is the active slice.
    strategy : str or Strategy
        A name of :func:`rlmba.strategies.names`, "module:Class", or an instance.
    n : int
        Number of samples to select, at most the number of unlabeled ones.
    label_field : str or None
        The field with the labels: a ``Classification``, or a text, integer or boolean. Samples whose
        field is empty are unlabeled. None if no sample is labeled.
    embeddings : str or mapping of modality to str, optional
        The field, or that of each modality, with a vector in each sample. For several modalities, a
        sample without a vector lacks the modality.
    logits : str or mapping of modality to str, optional
        The field, or that of each modality, with logits [C], such as ``"predictions.logits"``. In a
        mapping, the key "mm" is the fused head.
    model : optional
        Instead of ``logits``. A network of :func:`rlmba.load` that was trained on arrays predicts from
        the embeddings. A function gets the view and returns a mapping with ``logits`` or
        ``probabilities``, and any other arguments of :func:`rlmba.select`, in the view's order.
    classes : sequence of str, optional
        Names of the columns of the logits, for strategies that read labels. Default: the classes of the
        network, else the dataset's classes for this field, else the distinct labels, sorted.
    tag : str
        The tag of the batch.
    rng : int, numpy.random.Generator, torch.Generator or None
        See :func:`rlmba.select`.
    **arguments
        Other arguments of :func:`rlmba.select`, in the view's order, and the strategy's options.

    Returns
    -------
    SelectedSamples
        ``positions`` are positions of samples in the view; ``ids`` are their FiftyOne ids.

    Raises
    ------
    UsageError
        If the view does not have a field, a field is of the wrong kind or read-only, the strategy needs
        embeddings or logits that were not given, the view holds patches, frames or clips, or for a reason
        given in :func:`rlmba.select`.
    DataError
        If a sample has no vector, vectors of a field differ in width, a label is not one of the classes,
        samples are added or deleted while the fields are read, the view has no fixed order, a selected
        sample was deleted meanwhile, or for a reason given in :func:`rlmba.select`.
    """
    chosen, given = split(strategy, arguments)
    _require_collection(view)
    ids = view.values("id")
    dataset = _dataset(view, ids)
    _require_writable(dataset, tag)
    labels = _labels(view, label_field, ids)
    given["ids"] = np.array(ids, dtype=np.str_)
    if embeddings is not None and (
        (chosen.needs | chosen.optional) & READS_FEATURES or hasattr(model, "predict")
    ):
        given |= _features(view, embeddings, ids)
    if logits is not None:
        given["logits"] = _by_modality(view, logits, ids, "logits")[0]
    if model is not None:
        given |= _outputs(view, model, embeddings, given)
        classes = classes or getattr(model, "classes", None)
    _require_given(view, chosen, given)
    if view.values("id") != ids:
        raise _edited(ids)
    labeled = np.array([label is not None for label in labels], dtype=bool)
    if labeled.any():
        given["labeled"] = labeled
        if "labels" in chosen.needs | chosen.optional:
            given["labels"] = _positions(view, label_field, labels, classes, given)
    batch = select_arrays(chosen, n=n, rng=rng, **with_inputs(chosen, given))
    _mark(dataset, ids, batch, _difficulty(given), tag)
    return batch


def _require_collection(view: Any) -> None:
    if not isinstance(view, fo.Dataset | fo.DatasetView):
        raise UsageError(
            f"expected a dataset or view of FiftyOne, got {type(view).__name__}; load one with "
            "fiftyone.load_dataset(NAME)"
        )


def _dataset(view: Any, ids: Sequence[str]) -> Any:
    """The dataset of a view. Marks are written by sample id, because they may change a view's content."""
    if isinstance(view, fo.Dataset):
        return view
    dataset = fo.load_dataset(view.dataset_name)
    if _count(dataset, ids[:1]) != len(ids[:1]):
        raise UsageError(
            "expected samples of a dataset, got a view of patches, frames or clips; make it a dataset with "
            "view.clone()"
        )
    return dataset


def _parts(dataset: Any) -> list[Any]:
    """A dataset in parts whose samples can be selected by id: the slices of a grouped dataset."""
    return [dataset.select_group_slices(s) for s in dataset.group_slices or ()] or [dataset]


def _count(dataset: Any, ids: Sequence[str]) -> int:
    return sum(part.select(ids).count() for part in _parts(dataset))


def _edited(ids: Sequence[str]) -> DataError:
    """Each field is read by its own query, so samples may be added or deleted in between."""
    return DataError(
        f"expected the same {len(ids)} samples in the same order while the view's fields are read, got other "
        "ones: the dataset was edited, or the view has no fixed order; select again, or pass "
        'dataset.select(view.values("id"))'
    )


def _require_writable(dataset: Any, tag: str) -> None:
    if not isinstance(tag, str) or not tag.strip():
        raise UsageError(f"tag: expected a non-empty text, got {tag!r}")
    schema = dataset.get_field_schema()
    for name, kinds in ((RANK, fo.IntField), (SCORE, fo.FloatField), (DIFFICULTY, fo.FloatField)):
        if name in schema and not isinstance(schema[name], kinds):
            raise UsageError(
                f"field {name!r}: expected a {kinds.__name__} or no such field, because the selection writes "
                f"it, got a {type(schema[name]).__name__}; rename yours with "
                f"dataset.rename_sample_field({name!r}, NEW)"
            )
    for name in (RANK, SCORE, DIFFICULTY, "tags"):
        if name in schema and schema[name].read_only:
            raise UsageError(
                f"field {name!r}: expected a field that can be edited, because the selection writes it, got "
                "a read-only one; set field.read_only = False and call field.save()"
            )


def require_field(view: Any, path: str, what: str) -> Any:
    """A field of a view.

    Raises
    ------
    UsageError
        If the view has no such field; ``what`` names the argument.
    """
    if not isinstance(path, str):
        raise UsageError(f"{what}: expected the name of a field, got {path!r}")
    found = view.get_field(path)
    if found is None:
        names = [name for name in view.get_field_schema() if name not in (RANK, SCORE, DIFFICULTY)]
        raise UsageError(
            f"{what}: expected one of the view's fields, got {path!r}; the view has {names[:_SHOWN]}"
            + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        )
    return found


def _values(view: Any, path: str, ids: Sequence[str]) -> list[Any]:
    values: list[Any] = view.values(path)
    if len(values) != len(ids):
        raise _edited(ids)
    return values


def vector_fields(view: Any) -> list[str]:
    """Names of the fields that can hold a vector in each sample."""
    kinds = (fo.VectorField, fo.ArrayField, fo.ListField)
    schema = view.get_field_schema()
    return [name for name, field in schema.items() if isinstance(field, kinds) and name != "tags"]


def _labels(view: Any, path: str | None, ids: Sequence[str]) -> list[Any]:
    """The label of each sample; None for unlabeled ones."""
    if path is None:
        return [None] * len(ids)
    field = require_field(view, path, "label_field")
    if isinstance(field, fo.EmbeddedDocumentField):
        if not issubclass(field.document_type, fo.Classification):
            raise UsageError(
                f"label_field: expected a field with one class for each sample, got {path!r} with "
                f"{field.document_type.__name__}"
            )
        path = f"{path}.label"
    elif not isinstance(field, fo.StringField | fo.IntField | fo.BooleanField):
        raise UsageError(
            f"label_field: expected a field with one class for each sample, got {path!r}, a "
            f"{type(field).__name__}"
        )
    return [None if label is None else str(label) or None for label in _values(view, path, ids)]


def _features(view: Any, paths: str | Mapping[str, str], ids: Sequence[str]) -> dict[str, Any]:
    features, present = _by_modality(view, paths, ids, "embeddings")
    if present is None or present.all():
        return {"features": features}
    lost = np.flatnonzero(~present.any(axis=1))
    if len(lost):
        raise DataError(
            f"sample {ids[lost[0]]!r} has no vector in any of the fields of embeddings; compute one, "
            f"or leave it out of the view ({len(lost)} such samples)"
        )
    return {"features": features, "present": present}


def _by_modality(
    view: Any, paths: str | Mapping[str, str], ids: Sequence[str], what: str
) -> tuple[Any, NDArray[np.bool_] | None]:
    """The arrays of fields; for embeddings of several modalities, also which samples have each modality."""
    if not isinstance(paths, Mapping):
        return _stacked(view, paths, ids, what, None), None
    optional = what == "embeddings" and len(set(paths) - {MULTIMODAL}) > 1
    present: dict[str, NDArray[np.bool_]] = {}
    arrays = {}
    for modality, path in paths.items():
        has = np.ones(len(ids), dtype=bool)
        lenient = optional and modality != MULTIMODAL
        arrays[modality] = _stacked(
            view, path, ids, f"{what}[{modality!r}]", has if lenient else None
        )
        if modality != MULTIMODAL:
            present[modality] = has
    return arrays, np.stack(list(present.values()), axis=1) if optional else None


def _stacked(
    view: Any, path: str, ids: Sequence[str], what: str, has: NDArray[np.bool_] | None
) -> NDArray[Any]:
    """The vectors of a field as [N, D]. For a missing one, the row is 0 and ``has`` is set to false."""
    require_field(view, path, what)
    values = _values(view, path, ids)
    vectors = [None if value is None else np.asarray(value) for value in values]
    width = next((v.shape for v in vectors if v is not None), None)
    if width is None:
        how = "compute_embeddings(model, embeddings_field=...)"
        if what.startswith("logits"):
            how = "apply_model(model, label_field=..., store_logits=True)"
        raise UsageError(
            f"{what}: expected vectors in the field {path!r}, got none in {len(ids)} samples; compute them "
            f"first, for example with view.{how}"
        )
    for row, vector in enumerate(vectors):
        if vector is None and has is None:
            missing = sum(v is None for v in vectors)
            raise DataError(
                f"{what}: sample {ids[row]!r} has no vector in the field {path!r} ({missing} such samples); "
                f"compute it, or select from view.exists({path!r})"
            )
        if vector is None:
            continue
        if vector.ndim != 1 or vector.dtype.kind not in "fiub" or vector.shape != width:
            raise DataError(
                f"{what}: expected vectors of numbers of one width in the field {path!r}, got shape {width} "
                f"first and shape {vector.shape}, dtype {vector.dtype}, in sample {ids[row]!r}"
            )
    if has is not None:
        has[:] = [vector is not None for vector in vectors]
    return np.stack([np.zeros(width) if v is None else v for v in vectors])


def _outputs(view: Any, model: Any, embeddings: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``rlmba.select`` that are computed by a model."""
    if set(_OUTPUTS) & set(given):
        raise UsageError("expected logits or a model, got both; remove one of them")
    if hasattr(model, "predict"):
        if not isinstance(embeddings, Mapping):
            raise UsageError(
                "model: expected embeddings={modality: field} for the network's modalities "
                f"{list(getattr(model, 'modalities', ()))}, got {embeddings!r}"
            )
        samples = dict(given["features"])
        if "present" in given:
            samples["present"] = given["present"]
        return {"probabilities": model.predict(samples).probabilities}
    if not callable(model):
        raise UsageError(
            f"model: expected a network of rlmba.load or a function of the view, got {type(model).__name__}"
        )
    found = model(view)
    if not isinstance(found, Mapping) or not set(_OUTPUTS) & set(found):
        got = list(found) if isinstance(found, Mapping) else type(found).__name__
        raise UsageError(
            f"model: expected the function to return a mapping with logits or probabilities, got {got}"
        )
    return dict(found)


def _require_given(view: Any, strategy: Strategy, given: Mapping[str, Any]) -> None:
    """Raise an error that names the missing arguments of this function, not those of ``rlmba.select``."""
    wanted = []
    if strategy.needs & {"features", "modality_features", "input_features"} and not (
        {"features", "input_features"} & set(given)
    ):
        wanted.append("embeddings=FIELD")
    if strategy.needs & {"logits", "modality_logits"} and not set(_OUTPUTS) & set(given):
        wanted.append("logits=FIELD or model=")
    if wanted:
        raise UsageError(
            f"strategy {strategy.name!r} needs more than was passed: pass {'; '.join(wanted)}. Fields with "
            f"vectors in this view: {', '.join(vector_fields(view)[:_SHOWN]) or 'none'}"
        )


def _fused(given: Mapping[str, Any]) -> tuple[str, Any]:
    """The fused logits or probabilities, and which of the two they are; None if there are none."""
    for kind in _OUTPUTS:
        array = given.get(kind)
        if isinstance(array, Mapping):
            array = array.get(MULTIMODAL) if len(array) > 1 else next(iter(array.values()))
        if array is not None:
            return kind, np.asarray(array, dtype=np.float64)
    return "", None


def _positions(
    view: Any,
    path: str | None,
    labels: Sequence[str | None],
    classes: Sequence[str] | None,
    given: Mapping[str, Any],
) -> NDArray[np.int64]:
    """The labels as column numbers of the logits."""
    own = [label for label in labels if label is not None]
    names = [
        *map(str, classes or view.classes.get(path) or view.default_classes or sorted(set(own)))
    ]
    columns = _fused(given)[1]
    if columns is not None and columns.shape[1] != len(names):
        raise UsageError(
            f"classes: expected the names of the {columns.shape[1]} columns of the logits, got "
            f"{len(names)} names ({names[:_SHOWN]}); pass classes=[...]"
        )
    found = class_positions(own, names)
    if found is None:
        other = next(label for label in own if label not in names)
        raise DataError(
            f"label_field {path!r}: expected one of the classes {names[:_SHOWN]}, got {other!r}; correct the "
            "label, or pass classes="
        )
    return found


def _difficulty(given: Mapping[str, Any]) -> NDArray[np.float64] | None:
    kind, array = _fused(given)
    if array is None:
        return None
    return np.asarray(
        margin_difficulty(array if kind == "logits" else log_probabilities(array, kind))
    )


def _mark(
    dataset: Any,
    ids: Sequence[str],
    batch: SelectedSamples,
    difficulty: NDArray[np.float64] | None,
    tag: str,
) -> None:
    picked = batch.ids.tolist()
    if (found := _count(dataset, picked)) != len(picked):
        raise DataError(
            f"expected the {len(picked)} selected samples in the dataset, got {found}: the others were "
            "deleted during the selection; select again"
        )
    schema = dataset.get_field_schema()
    for name, kind in ((RANK, fo.IntField), (SCORE, fo.FloatField), (DIFFICULTY, fo.FloatField)):
        if name not in schema:
            dataset.add_sample_field(name, kind)
    # Marks are removed only where there are some: on a large dataset, a query cannot hold all ids (16 MB),
    # and writing to all samples takes minutes.
    parts, others = _parts(dataset), set(ids).difference(picked)
    for name, values in ((RANK, range(1, len(picked) + 1)), (SCORE, batch.scores.tolist())):
        old = [part.match({name: {"$ne": None}}).values("id") for part in parts]
        stale = [i for ids_of_part in old for i in ids_of_part if i in others]
        marks = dict.fromkeys(stale) | dict(zip(picked, values, strict=True))
        dataset.set_values(name, marks, key_field="id")
    if difficulty is not None:
        difficulties = dict(zip(ids, difficulty.tolist(), strict=True))
        dataset.set_values(DIFFICULTY, difficulties, key_field="id")
    for part in parts:
        stale = [i for i in part.match_tags(tag).values("id") if i in others]
        part.select(stale).untag_samples(tag)
        part.select(picked).tag_samples(tag)
