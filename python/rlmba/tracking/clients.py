"""One client for each tracker; each is used only by the tracker's own process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

__all__ = ["CLIENTS", "Client", "Start"]

_PROJECT = "rlmba"
"""Project or experiment in the trackers, unless the tracker's own environment variable names another."""


@dataclass(frozen=True)
class Start:
    """The run that a client tracks.

    Parameters
    ----------
    folder : path
        The run folder.
    key : str
        The run's id in all trackers, 32 hexadecimal digits; a resumed run has the same.
    name : str
        The displayed name of the run.
    config : mapping of dotted key to value
        The run's configuration, as JSON values.
    """

    folder: Path
    key: str
    name: str
    config: Mapping[str, Any]


class Client(Protocol):
    """A run in one tracker. Its constructor takes a :class:`Start`, and creates or continues the run."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add the numbers of a round. The step is the round's number of labels."""

    def report(self, step: int, folder: Path, files: Sequence[Path]) -> None:
        """Add the files of a report in ``folder``. The step is the last number of labels."""

    def close(self, *, failed: bool) -> None:
        """End the run, which may be resumed later, and wait until everything is stored."""


class TensorBoard:
    """Event files in the run folder. They are written without PyTorch's writer, which would load PyTorch."""

    def __init__(self, start: Start) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(start.folder / "tensorboard"))
        text = json.dumps(dict(start.config), indent=1, ensure_ascii=False)
        self._add(0, [self._text("config", f"```json\n{text}\n```")])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add(step, [Summary.Value(tag=t, simple_value=v) for t, v in values.items()])

    def report(self, step: int, folder: Path, files: Sequence[Path]) -> None:
        for path in files:
            tag = f"report/{path.relative_to(folder).with_suffix('').as_posix()}"
            if path.suffix == ".png":
                self._add(step, [self._image(tag, path)])
            elif path.suffix == ".md":
                self._add(step, [self._text(tag, path.read_text(encoding="utf-8"))])

    def close(self, *, failed: bool) -> None:  # noqa: ARG002 - event files have no status
        self._writer.close()

    def _add(self, step: int, values: Sequence[Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._writer.add_event(
            Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        )
        self._writer.flush()

    @staticmethod
    def _text(tag: str, text: str) -> Any:
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

        plugin = SummaryMetadata.PluginData(plugin_name="text")
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode()], tensor_shape=shape)
        return Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin), tensor=tensor)

    @staticmethod
    def _image(tag: str, path: Path) -> Any:
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        with Image.open(path) as opened:
            width, height, channels = opened.width, opened.height, len(opened.getbands())
        image = Summary.Image(
            height=height, width=width, colorspace=channels, encoded_image_string=path.read_bytes()
        )
        return Summary.Value(tag=tag, image=image)


class MLflow:
    """A run in the MLflow server or store that MLflow's own settings name."""

    _KEY = "rlmba.id"
    _MOST_METRICS, _MOST_PARAMS, _LONGEST_PARAM = 1000, 100, 6000  # limits of one request

    def __init__(self, start: Start) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient()
        experiment = self._experiment()
        query = f"tags.`{self._KEY}` = '{start.key}'"
        if found := self._client.search_runs([experiment], query, max_results=1):
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        tags = {self._KEY: start.key, "mlflow.source.name": "rlmba"}
        self._run = self._client.create_run(experiment, tags=tags, run_name=start.name).info.run_id
        values = iter(start.config.items())
        while some := list(islice(values, self._MOST_PARAMS)):
            params = [Param(key, str(value)[: self._LONGEST_PARAM]) for key, value in some]
            self._client.log_batch(self._run, params=params)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        rest = iter(values.items())
        while some := list(islice(rest, self._MOST_METRICS)):
            self._client.log_batch(self._run, metrics=[Metric(k, v, now, step) for k, v in some])

    def report(self, step: int, folder: Path, files: Sequence[Path]) -> None:  # noqa: ARG002
        for path in files:
            inside = Path("report", path.relative_to(folder)).parent
            self._client.log_artifact(self._run, str(path), inside.as_posix())

    def close(self, *, failed: bool) -> None:
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")

    def _experiment(self) -> str:
        if (known := os.environ.get("MLFLOW_EXPERIMENT_ID")) is not None:
            return known
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(name))
        except Exception:  # another run may have created the experiment in the meantime
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)


class _WandBLike:
    """Common part of Weights & Biases and Trackio, which have the same functions and classes."""

    def __init__(self, library: Any, run: Any, key: str) -> None:
        self._library = library
        self._run = run
        self._key = key

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def report(self, step: int, folder: Path, files: Sequence[Path]) -> None:
        images = {
            f"report/{path.relative_to(folder).with_suffix('').as_posix()}": str(path)
            for path in files
            if path.suffix == ".png"
        }
        if images:
            self._run.log({tag: self._library.Image(p) for tag, p in images.items()}, step=step)
        artifact = self._library.Artifact(f"report-{self._key}", type="report")
        for path in files:
            artifact.add_file(str(path), path.relative_to(folder).as_posix())
        self._run.log_artifact(artifact)


class WandB(_WandBLike):
    """A run in Weights & Biases; in offline mode, files in the run folder."""

    def __init__(self, start: Start) -> None:
        import wandb

        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            id=start.key,
            name=start.name,
            resume="allow",
            config=dict(start.config),
            dir=os.environ.get("WANDB_DIR", str(start.folder)),
            settings=wandb.Settings(console="off"),
        )
        super().__init__(wandb, run, start.key)

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class Trackio(_WandBLike):
    """A run in Trackio: in its local database, or in the place that Trackio's own settings name."""

    def __init__(self, start: Start) -> None:
        import trackio

        # A run is continued by its name, which therefore includes a part of the id.
        run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", _PROJECT),
            name=f"{start.name}-{start.key[:8]}",
            resume="allow",
            config=dict(start.config),
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        super().__init__(trackio, run, start.key)

    def close(self, *, failed: bool) -> None:  # noqa: ARG002 - runs have no status
        self._run.finish()


CLIENTS: Mapping[str, Callable[[Start], Client]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WandB,
    "trackio": Trackio,
}
