"""FiftyOne: the operator "Select samples to label" of the App.

The folder ``fiftyone_plugin`` next to this module is the plugin. FiftyOne finds it through a link in its
folder of plugins (docs/direct-use.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types

from rlmba.adapters.fiftyone import RANK, require_field, select, vector_fields
from rlmba.errors import RlmbaError, UsageError
from rlmba.strategies import Strategy, create, names

__all__ = ["SelectSamples"]

_LABEL = "Select samples to label"
_FEATURES = frozenset({"features", "modality_features", "input_features"})
_LOGITS = frozenset({"logits", "modality_logits"})
_FORM = _FEATURES | _LOGITS | {"labeled", "labels"}
"""What the form can give. Strategies that need a head or dropout passes are for ``select`` in Python."""
_STRATEGY, _N, _TAG = "rlmba-x", 100, "rlmba"
_MODALITIES = "A field, or one for each modality: image=clip, text=bert"


class SelectSamples(foo.Operator):
    """Select samples of the current view with :func:`rlmba.adapters.fiftyone.select`, and show them.

    Its parameters are those of that function: ``strategy``, ``n``, ``label_field``, ``embeddings``,
    ``logits`` and ``tag``. Fields of several modalities are written as ``image=clip, text=bert``.
    """

    @property
    def config(self) -> Any:
        """The operator's name, and what the App shows."""
        return foo.OperatorConfig(
            name="select_samples",
            label=_LABEL,
            description="Choose the samples to label next by a query strategy, and tag them",
            dynamic=True,
        )

    def resolve_input(self, ctx: Any) -> Any:
        """The form: fields that the strategy needs are required, and must exist in the view."""
        if ctx.view is None:
            message = "Open a dataset first"
            return types.Property(
                types.Object(), invalid=True, error_message=message, view=types.Error(label=message)
            )
        inputs = types.Object()
        offered = dict(_offered())
        choices = types.DropdownView()
        for name, strategy in offered.items():
            choices.add_choice(name, label=name, description=strategy.summary)
        inputs.enum(
            "strategy", choices.values(), view=choices, label="Strategy", default=_STRATEGY, required=True
        )  # fmt: skip
        inputs.int("n", label="Number of samples", min=1, default=_N, required=True)
        chosen = offered.get(ctx.params.get("strategy", _STRATEGY))
        needs = chosen.needs if chosen else frozenset()
        labels = _label_fields(ctx.view)
        vectors = vector_fields(ctx.view)
        logits = [f"{path}.logits" for path, is_document in labels.items() if is_document]
        _text(
            ctx, inputs, "embeddings", vectors, label="Embeddings", description=_MODALITIES,
            required=bool(needs & _FEATURES),
        )  # fmt: skip
        _text(
            ctx, inputs, "logits", [*logits, *vectors], label="Logits",
            description=f"{_MODALITIES}; mm is the fused head", required=bool(needs & _LOGITS),
        )  # fmt: skip
        _text(
            ctx, inputs, "label_field", labels, label="Labels",
            description="Samples that have a label are not selected",
            default="ground_truth" if "ground_truth" in labels else None,
        )  # fmt: skip
        inputs.str("tag", label="Tag of the selected samples", default=_TAG)
        return types.Property(inputs, view=types.View(label=_LABEL))

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Select and tag the samples, and show them in the order of their ranks.

        An error is a result, ``{"error": message}``. The App would fold an exception, with a traceback.
        """
        given = ctx.params
        try:
            batch = select(
                ctx.view,
                given["strategy"],
                given["n"],
                label_field=given.get("label_field") or None,
                embeddings=_paths(given.get("embeddings")),
                logits=_paths(given.get("logits")),
                tag=given.get("tag") or _TAG,
            )
        except RlmbaError as error:
            return {"error": str(error)}
        # A view of the dataset, because the tags and ranks just written may change the current view. Only
        # the current view says which slices of a grouped dataset it has.
        whole = ctx.dataset if ctx.dataset.group_slices is None else ctx.view
        ctx.ops.reload_dataset()
        ctx.ops.set_view(whole.select(batch.ids.tolist(), ordered=True))
        ctx.ops.notify(f"{len(batch)} samples are selected", variant="success")
        return {"selected": len(batch)}

    def resolve_output(self, ctx: Any) -> Any:
        """The error, if there was one."""
        if "error" not in ctx.results:
            return None
        outputs = types.Object()
        view = types.Error(label="No samples were selected", description=ctx.results["error"])
        outputs.view("message", view)
        return types.Property(outputs, view=types.View(label=_LABEL))


def _offered() -> Iterator[tuple[str, Strategy]]:
    """The strategies that need nothing but what the form can give."""
    for name in names():
        try:
            strategy = create(name)
        except RlmbaError:  # of another package that cannot be loaded
            continue
        if strategy.needs <= _FORM:
            yield name, strategy


def _label_fields(view: Any) -> dict[str, bool]:
    """Fields with one class for each sample, and whether they are documents, which may have logits."""
    found = {}
    for path, field in view.get_field_schema().items():
        is_document = isinstance(field, fo.EmbeddedDocumentField)
        if is_document and issubclass(field.document_type, fo.Classification):
            found[path] = True
        elif isinstance(field, fo.StringField | fo.IntField | fo.BooleanField):
            found[path] = False
    for path in ("id", "filepath", RANK):
        found.pop(path, None)
    return found


def _paths(text: str | None) -> str | Mapping[str, str] | None:
    """A field, or fields by modality, as written in the form.

    Raises
    ------
    UsageError
        If the text is neither.
    """
    if not text or "=" not in text:
        return (text or "").strip() or None
    pairs = [[part.strip() for part in pair.split("=")] for pair in text.split(",")]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise UsageError(
            f"expected a field, or modalities as in image=clip, text=bert, got {text!r}"
        )
    found = dict(pairs)
    if len(found) < len(pairs):
        raise UsageError(f"expected one field for each modality, got {text!r}")
    return found


def _text(ctx: Any, inputs: Any, name: str, paths: Iterable[str], **how: Any) -> None:
    """A text input that suggests fields, and is invalid if it names one that the view does not have."""
    choices = types.AutocompleteView()
    for path in paths:
        choices.add_choice(path, label=path)
    made = inputs.str(name, view=choices, **how)
    try:
        given = _paths(ctx.params.get(name))
        for path in given.values() if isinstance(given, Mapping) else [given] if given else []:
            require_field(ctx.view, path, name)
    except UsageError as error:
        made.invalid, made.error_message = True, str(error)
