"""A selection on files: read the pool, estimate the cost, select, write the batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.config import yaml12
from rlmba.data.batch_file import SUFFIXES, write_batch
from rlmba.data.pool_file import read_ids, read_labeled, read_pool
from rlmba.errors import DataError, UsageError
from rlmba.ids import as_ids, id_texts, not_storable
from rlmba.progress import announce
from rlmba.strategies import Strategy, create
from rlmba.strategies.cost import Estimate, Workload, estimate
from rlmba.strategies.direct import SelectedSamples, select
from rlmba.tables import check_target
from rlmba.types import MULTIMODAL

__all__ = ["FileSelection", "WrittenBatch", "parse_options", "plan", "run_selection", "workload"]

_LABELED = ("labeled", "labels", "labeled_input_features")


@dataclass(frozen=True, eq=False)
class WrittenBatch:
    """A batch that was written: ``path`` is its file, ``seconds`` the wall time of the selection."""

    batch: SelectedSamples
    path: Path
    seconds: float
    strategy: str

    def lines(self) -> list[str]:
        """The lines of a summary."""
        stages = ", ".join(f"{k} {v:.2f} s" for k, v in self.batch.seconds.items())
        return [
            f"selected {len(self.batch):,} samples by {self.strategy} in {self.seconds:.2f} s"
            + (f" ({stages})" if stages else ""),
            str(self.path),
        ]


@dataclass(frozen=True, eq=False)
class FileSelection:
    """A selection that is ready to run.

    ``work`` is its size, ``expected`` its estimate (None if the strategy has none), ``given`` the bytes
    of the arrays that were read, and ``unused`` the names in the pool's file that are not used.
    """

    strategy: Strategy
    arguments: Mapping[str, Any]
    n: int
    seed: int
    out: Path | None
    work: Workload
    expected: Estimate | None
    given: int
    unused: tuple[str, ...]

    def lines(self) -> list[str]:
        """The lines that describe the selection and its cost."""
        w = self.work
        parts = [f"{w.samples:,} samples"]
        parts += [f"features of width {w.width:,}"] if w.width else []
        parts += [f"{w.classes:,} classes"] if w.classes else []
        parts += [f"{w.modalities} modalities"] if w.modalities > 1 else []
        parts += [f"{w.labeled:,} labeled"] if w.labeled else []
        found = [f"pool: {', '.join(parts)}; {as_bytes(self.given)}"]
        if self.unused:
            found.append(f"not used: {', '.join(self.unused)}")
        if self.expected is None:
            cost = "unknown for this strategy"
        else:
            cost = (
                f"about {as_seconds(self.expected.seconds)} and {as_bytes(self.expected.memory)} "
                "in addition to the pool"
            )
        found.append(f"estimate for {self.n:,} by {self.strategy.name}: {cost}")
        return found

    def run(self) -> WrittenBatch:
        """Select and write.

        Raises
        ------
        UsageError
            If no file to write was named, or as :func:`rlmba.select`.
        DataError
            As :func:`rlmba.select`.
        StorageError
            If the batch could not be written.
        """
        return run_selection(
            self.out,
            self.strategy,
            lambda: select(self.strategy, n=self.n, rng=self.seed, **self.arguments),
        )


def run_selection(
    out: Path | None,
    strategy: Strategy,
    choose: Callable[[], SelectedSamples],
    *,
    write: bool = True,
) -> WrittenBatch:
    """Select a batch, and write it to ``out``.

    Parameters
    ----------
    out : path, optional
        See :func:`rlmba.data.batch_file.write_batch`.
    strategy : Strategy
        The strategy whose name is written to the file.
    choose : callable
        Function that selects.
    write : bool
        Whether the batch is written. Of several processes, only the first one writes it.

    Raises
    ------
    UsageError, DataError, StorageError
        See :meth:`FileSelection.run`.
    """
    if out is None:
        raise UsageError("expected a file to write the batch to; give it with --out")
    start = time.perf_counter()
    batch = choose()
    seconds = time.perf_counter() - start
    if write:
        write_batch(
            out,
            strategy=strategy.name,
            ids=batch.ids,
            positions=batch.positions,
            scores=batch.scores,
        )
    return WrittenBatch(batch, out, seconds, strategy.name)


def plan(
    pool: Path,
    n: int,
    *,
    strategy: str,
    options: Sequence[str] = (),
    out: Path | None = None,
    labeled: Sequence[Path] = (),
    ids: Path | None = None,
    npy_holds: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    dry_run: bool = False,
) -> FileSelection:
    """Read what a selection needs and estimate its cost; all but the values of arrays is checked.

    Parameters
    ----------
    pool : path
        See :func:`rlmba.data.pool_file.read_pool`.
    n : int
        Number of samples to select.
    strategy : str
        A name of :func:`rlmba.strategies.names`, or "module:Class".
    options : sequence of str
        ``KEY=VALUE``, values in YAML.
    out : path, optional
        See :func:`rlmba.data.batch_file.write_batch`; required unless ``dry_run``.
    labeled : sequence of path
        See :func:`rlmba.data.pool_file.read_labeled`.
    ids : path, optional
        Ids for a pool whose file has none.
    npy_holds : str, optional
        What a ``.npy`` pool contains.
    seed : int
        Seed of all randomness, >= 0.
    overwrite : bool
        Whether ``out`` may exist already.
    dry_run : bool
        The selection will not be run.

    Raises
    ------
    UsageError, DataError, StorageError
        As the readers; if n is larger than the pool, an option is wrong, or the batch could not be
        written.
    """
    chosen = create(strategy, **parse_options(options))
    if out is None and not dry_run:
        raise UsageError("expected a file to write the batch to; give it with --out, or --dry-run")
    if out is not None:
        check_target(out, overwrite=overwrite, suffixes=SUFFIXES)
    if seed < 0:
        raise UsageError(f"--seed: expected an integer >= 0, got {seed}")
    announce(f"reading {pool.name}")
    read = read_pool(pool, npy_holds=npy_holds)
    arguments = dict(read.arguments)
    if ids is not None:
        arguments["ids"] = read_ids(ids)
    if arguments.get("ids") is not None:
        arguments["ids"] = _storable(as_ids(arguments["ids"]))
    if labeled:
        # Replaces the labeled samples of the pool's own file, and their classes.
        arguments = {k: v for k, v in arguments.items() if k not in _LABELED}
        arguments |= _as_mask(read_labeled(labeled, arguments.get("ids")), arguments.get("ids"))
    work = workload(arguments, n)
    if not 0 <= n <= work.samples:
        raise UsageError(
            f"-n: expected 0 to {work.samples:,}, the unlabeled samples of the pool, got {n:,}"
        )
    return FileSelection(
        strategy=chosen,
        arguments=arguments,
        n=n,
        seed=seed,
        out=out,
        work=work,
        expected=estimate(chosen, work),
        given=sum(a.nbytes for a in _arrays(arguments.values())),
        unused=read.unused,
    )


def _as_mask(read: dict[str, Any], ids: NDArray[Any] | None) -> dict[str, Any]:
    """Labeled samples with positions as a mask, since positions could be taken for integer ids."""
    at = read.get("labeled")
    if ids is None or isinstance(at, Mapping) or at is None or at.ndim != 1 or at.dtype == np.bool_:
        return read
    mask = np.zeros(len(ids), dtype=np.bool_)
    mask[at] = True
    return {**read, "labeled": mask}


def _storable(ids: NDArray[Any]) -> NDArray[Any]:
    """Check that ids are preserved by every format of a batch's file."""
    if ids.dtype.kind not in "iu":
        for text in id_texts(ids):
            if problem := not_storable(text):
                raise DataError(
                    f"ids: {text!r} {problem}, and no file would preserve it; rename it"
                )
    return ids


def workload(arguments: Mapping[str, Any], n: int) -> Workload:
    """The size of a selection from the arguments of ``rlmba.select``, as NumPy arrays."""
    features, logits = arguments.get("features"), arguments.get("logits")
    probabilities = arguments.get("probabilities")
    if logits is None:
        logits = probabilities
    dropout, labeled = arguments.get("dropout_logits"), arguments.get("labeled")
    if labeled is None:
        labeled = arguments.get("labeled_input_features")
    first = [*_arrays([features, logits]), *([] if dropout is None else [dropout[0]])]
    inputs = arguments.get("input_features")
    first = first or _arrays([inputs]) or _arrays([arguments.get("ids")])
    if not first:
        raise UsageError(
            "expected a pool with features, logits, input_features or ids, got none of them"
        )
    total = samples = len(first[0])
    names = [m for kind in (features, logits, inputs) if isinstance(kind, Mapping) for m in kind]
    modalities = len(set(names) - {MULTIMODAL}) or 1
    read = [a for a in _arrays([features, logits, dropout]) if a.ndim > 1]
    single = all(a.dtype in (np.float16, np.float32) for a in read)
    itemsize = 4 if single else 8
    width, made = _fused(features, total, itemsize)
    made += sum(a.nbytes for a in _arrays([probabilities]))
    made += sum(a.size * itemsize for a in read if a.dtype not in (np.float32, np.float64))
    count = 0
    for a in _arrays([labeled])[:1]:
        count = len(a) if a.ndim != 1 or a.dtype != np.bool_ else int(a.sum())
        if a.ndim == 1:
            samples -= count
            made += sum(x.size * itemsize for x in read)
    classes = [a.shape[-1] for a in _arrays([logits, dropout]) if a.ndim > 1]
    return Workload(
        samples=samples,
        batch=n,
        classes=classes[0] if classes else 0,
        width=width,
        modalities=modalities,
        labeled=count,
        passes=0 if dropout is None else len(dropout),
        itemsize=itemsize,
        made=made,
        incomplete=_incomplete(arguments.get("present")),
        input_width=sum(a.shape[-1] for a in _arrays([inputs if inputs is not None else features])),
    )


def _incomplete(present: Any) -> int:
    """Number of samples that lack a modality; other than two axes are refused at the selection."""
    return 0 if np.ndim(present) != 2 else int((np.asarray(present) == 0).any(axis=1).sum())


def _fused(features: Any, samples: int, itemsize: int) -> tuple[int, int]:
    """Width of the fused features, and their bytes if they have to be computed."""
    arrays = [a for a in _arrays([features]) if a.ndim == 2]
    if not arrays:
        return 0, 0
    if not isinstance(features, Mapping) or len(arrays) == 1:
        return arrays[0].shape[1], 0
    if MULTIMODAL in features:
        return features[MULTIMODAL].shape[1], 0
    widths = [a.shape[1] for a in arrays]
    width = widths[0] if len(set(widths)) == 1 else sum(widths)
    return width, samples * width * itemsize


def _arrays(values: Any) -> list[NDArray[Any]]:
    found: list[NDArray[Any]] = []
    for value in values:
        if isinstance(value, Mapping):
            found += _arrays(value.values())
        elif isinstance(value, tuple):
            found += _arrays(value)
        elif value is not None:
            found.append(value)
    return found


def parse_options(given: Sequence[str]) -> dict[str, Any]:
    """Options of a strategy from texts ``KEY=VALUE``, with values in YAML."""
    options: dict[str, Any] = {}
    for setting in given:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--option {setting!r}: expected KEY=VALUE, as in kappa=5")
        options[key.strip()] = yaml12.parse(text, f"--option {setting!r}")
    return options


def as_bytes(count: float) -> str:
    """A number of bytes for people."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def as_seconds(seconds: float) -> str:
    """A duration for people."""
    if seconds >= 120:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{max(seconds, 0.01):.2g} s"
