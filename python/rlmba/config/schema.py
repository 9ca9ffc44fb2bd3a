"""The schema of a run's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_Beta = Annotated[float, Field(ge=0, lt=1)]
_Epoch = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class EncoderConfig(_Section):
    """One modality's encoder. Keys beside ``name`` are options of that encoder."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    name: str = "auto"
    """A registered encoder, or "auto": chosen from the modality's kind and shape."""

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


class ModelConfig(_Section):
    """The network: encoders, projection width, fusion."""

    width: int = Field(512, ge=1)
    """d, the width every modality is projected to."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout before each linear head, in training."""
    encoders: dict[str, EncoderConfig] = {}
    """Encoder by modality; modalities not named get "auto"."""
    frozen: bool = False
    """Run encoders once over every sample, and train only what follows on their features."""
    features_folder: Path | None = None
    """Where features of frozen encoders are kept; null: the user's cache folder."""


FREE_KEYS = (
    "label",
    "project",
    "round0",
    "tensorboard",
    "model.features_folder",
    "training.workers",
    "training.prefetch",
    "training.checkpoint_minutes",
    "training.spill_folder",
)
"""Keys that change no result: a run may be resumed under others."""


class TrainingConfig(_Section):
    """One round's training, from the same initial weights every round unless ``warm_start``."""

    minibatch_size: int = Field(32, ge=1)
    """Samples per optimizer step, over all processes together."""
    gradient_accumulation: int = Field(1, ge=1)
    """Parts a minibatch is cut into, one after another, where it does not fit into memory."""
    learning_rate: float = Field(1e-3, gt=0)
    """AdamW's rate for heads and projections, and for encoders without their own."""
    encoder_learning_rates: dict[str, float] = {}
    """Rate by modality for its encoder."""
    optimizer: Literal["adamw", "adam"] = "adamw"
    """"adamw" decouples weight decay from the gradient; "adam" adds it to the gradient."""
    betas: tuple[_Beta, _Beta] = (0.9, 0.999)
    """Decay of the optimizer's averages of the gradient and of its square."""
    weight_decay: float = Field(0.01, ge=0)
    """Weight decay of weights; biases and norms have none."""
    schedule: Literal["step", "cosine", "constant"] = "step"
    """"step" divides the rate by 10 at every epoch of ``milestones``."""
    milestones: list[_Epoch] | None = None
    """Epochs for "step"; null: after two thirds of all epochs (the paper: epoch 10 of 15)."""
    max_grad_norm: float | None = Field(None, gt=0)
    """The l2 norm that a longer gradient is cut to; null: none."""
    warmup_epochs: int = Field(0, ge=0)
    """Epochs over which the rate first rises to its full height."""
    min_steps: int = Field(0, ge=0)
    """Epochs are added until this many optimizer steps are reached: for very small labeled sets."""
    patience: int | None = Field(None, ge=1)
    """Stop after so many epochs without a lower NLL on V, and keep the best epoch's weights."""
    augment: bool = True
    """Apply the data set's light augmentation to minibatches."""
    warm_start: bool = False
    """Go on from the last round's weights instead of the initial ones."""
    predict_batch_size: int = Field(512, ge=1)
    """Samples per forward pass without gradients, in each process."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the encoders' arithmetic; "auto": bf16 on a GPU that has it, else fp32."""
    compile: bool = False
    """Compile the encoders with torch.compile, which needs a C++ compiler."""
    workers: int | None = Field(None, ge=0)
    """Processes that load data; null: none for data in memory, else one a core."""
    prefetch: int = Field(2, ge=1)
    """Batches each of them loads ahead."""
    checkpoint_minutes: float | None = Field(None, gt=0)
    """Save a round's training so often, so that a killed run loses no more; null: once a round."""
    spill_folder: Path | None = None
    """Where outputs for a pool that outgrow free memory are mapped; null: the system's own folder."""


class AmcbConfig(_Section):
    """Adaptive modality contribution balancing (Eq 1-2)."""

    enabled: bool = True
    """False is the ablation: uniform weights in fusion, scoring and state."""
    tau: float = Field(1.0, gt=0)
    """Temperature of Eq 2."""
    floor: float = Field(1e-3, ge=0)
    """eps of the floor w~_m = (w_m + eps) / sum_j (w_j + eps)."""


RELATIVE_TO = ("gcnal", "badge", "bmmal")
"""The strategies whose mean curve the relative reward is measured from (Eq 9)."""


class RewardConfig(_Section):
    """The policy's reward (Eq 8-9), on V."""

    kind: Literal["absolute", "incremental", "relative"] = "absolute"
    """"relative" needs ``curves``."""
    smoothing: float = Field(0.0, ge=0, lt=1)
    """Weight of the past in the exponential moving average of the reward; 0 turns it off."""
    baselines: list[str] | None = list(RELATIVE_TO)
    """Strategies (or labels of runs) whose curves "relative" needs, all of them; null: those that
    ``curves`` happen to hold."""
    curves: list[Path] = []
    """Run folders of the baselines whose mean Top-1 at the same number of labels is subtracted, or folders
    with such run folders below them (`rlmba compare`)."""

    @model_validator(mode="after")
    def _curves_where_needed(self) -> RewardConfig:
        if self.baselines is not None and not self.baselines:
            raise ValueError(
                "reward.baselines: expected one or more strategies, such as [gcnal, badge, bmmal], got []"
            )
        if self.kind == "relative" and not self.curves:
            raise ValueError(
                'reward.kind "relative" needs the curves of baselines under the same protocol: '
                "`rlmba compare --strategies gcnal,badge,bmmal --output DIR` makes them, then "
                "`--set reward.curves=[DIR]`"
            )
        return self


class ProjectConfig(_Section):
    """A project: labels come from people. What `rlmba init` works out and `rlmba next` goes by."""

    annotator: str = "browser"
    """Who labels: browser, file, labelstudio, or oracle for a rehearsal."""
    annotator_options: dict[str, Any] = {}
    """Options of the annotator."""
    validation_labels: int | None = Field(None, ge=1)
    """Labels of V, asked for at the start where there are fewer; null: twice the number of classes, 20 at
    least."""


class RunConfig(_Section):
    """Everything that decides a run. ``null`` means: derived from the data, and written resolved."""

    dataset: str = "digits"
    """A registered data set."""
    data: Path | None = None
    """A file, for data sets that are one (``features``)."""
    data_root: Path | None = None
    """A folder, for data sets that are one."""
    dataset_options: dict[str, Any] = {}
    """Options of the data set (``features``: ``modalities``, ``split``)."""
    label: str | None = None
    """The strategy's name in tables and figures; null: ``strategy``. For ablations."""
    strategy: str = "rlmba"
    """A registered strategy."""
    strategy_options: dict[str, Any] = {}
    """Options of the strategy; `rlmba strategies` lists them."""
    seed: int = Field(0, ge=0)
    """Decides splits, initial labels, initial weights, minibatches and draws."""
    rounds: int | None = Field(None, ge=0)
    """T, rounds of querying after round 0; null: 8, or as many as the pool allows."""
    batch_size: int | None = Field(None, ge=1)
    """b, labels queried each round; null: twice the number of classes."""
    initial_labels: int | None = Field(None, ge=1)
    """Labels of round 0; null: twice the number of classes."""
    initial_sampling: Literal["stratified", "random"] = "stratified"
    """"stratified" takes every class at least once; "random" fails if it misses one."""
    initial_ids: Path | None = None
    """A file of ids, one a line, to start from in place of drawn initial labels (BMMAL's ``label.txt``)."""
    round0: Path | None = None
    """A run folder whose round 0 is taken over where it was trained alike, instead of training it again."""
    validation_fraction: float = Field(0.1, gt=0, lt=1)
    """Share of the training samples set aside as V, stratified, never queried."""
    epochs: int = Field(15, ge=1)
    """E, epochs of training each round."""
    fusion: Literal["amcb", "adaptive", "uniform", "concat"] = "amcb"
    """How modalities are fused; independent of the strategy."""
    predictor: Literal["fused", "pooled"] = "fused"
    """"pooled" adds the calibrated log-probabilities of all heads."""
    adaptive_penalty: float = Field(1.0, ge=0)
    """lambda of the adaptive fusion: the pull towards uniform weights."""
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    amcb: AmcbConfig = AmcbConfig()
    reward: RewardConfig = RewardConfig()
    project: ProjectConfig = ProjectConfig()
    device: str = "auto"
    """"auto", "cpu" or a torch device."""
    tensorboard: bool = False
    """Write TensorBoard events into the run folder."""
