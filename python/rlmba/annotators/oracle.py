"""The annotator of experiments: it looks the hidden label up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rlmba.data.base import MultimodalDataset
from rlmba.errors import UsageError

__all__ = ["Oracle"]


class Oracle:
    """Answers at once with the data set's own labels.

    Parameters
    ----------
    dataset : MultimodalDataset
    """

    def __init__(self, dataset: MultimodalDataset) -> None:
        self._labels = dict(zip(dataset.ids.tolist(), dataset.labels.tolist(), strict=True))
        self._tickets: dict[str, list[str]] = {}

    def request(self, ids: Sequence[str]) -> str:
        """Take a batch; its labels are ready at once.

        Raises
        ------
        UsageError
            If the data set has no sample of that id.
        """
        for i in ids:
            if i not in self._labels:
                raise UsageError(f"oracle: the data set has no sample {i!r}")
        ticket = str(len(self._tickets))
        self._tickets[ticket] = list(ids)
        return ticket

    def collect(self, ticket: str) -> Mapping[str, int]:
        """Labels of the batch behind ``ticket``."""
        return {i: self._labels[i] for i in self._tickets[ticket]}
