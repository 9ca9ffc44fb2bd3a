"""TensorBoard events of a run, if enabled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rlmba.errors import UsageError
from rlmba.types import RoundRecord

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["EventWriter"]


class EventWriter:
    """Write one point per metric and round; the step is the number of labels.

    Parameters
    ----------
    path : path
        Folder of the event files.
    enabled : bool
        False makes every method do nothing.

    Raises
    ------
    UsageError
        If ``enabled`` and TensorBoard is not installed.
    """

    def __init__(self, path: Path, *, enabled: bool) -> None:
        self._writer: SummaryWriter | None = None
        if enabled:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise UsageError(
                    "tensorboard=true needs TensorBoard; run pip install 'rlmba[tensorboard]'"
                ) from error
            self._writer = SummaryWriter(str(path))

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, record: RoundRecord) -> None:
        """Add the metrics of a round."""
        if self._writer is None:
            return
        for tag, value in scalars(record).items():
            self._writer.add_scalar(tag, value, record.labels)
        self._writer.flush()


def scalars(record: RoundRecord) -> dict[str, float]:
    """The metrics of a record by tag."""
    out: dict[str, float] = {}
    for split, evaluation in (("validation", record.validation), ("test", record.test)):
        if evaluation is not None:
            for head, metrics in evaluation.heads.items():
                floats = {k: v for k, v in vars(metrics).items() if isinstance(v, float)}
                out |= {f"{split}/{head}/{k}": v for k, v in floats.items()}
    for group in ("weights", "fusion_weights", "delta", "contributions", "seconds", "policy"):
        out |= {f"{group}/{k}": v for k, v in getattr(record, group).items()}
    for name in ("raw_reward", "reward", "advantage"):
        value = getattr(record, name)
        if value is not None:
            out[f"reward/{name}"] = value
    return out
