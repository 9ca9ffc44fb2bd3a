"""The schema of a run's configuration."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_Beta = Annotated[float, Field(ge=0, lt=1)]
_Epoch = Annotated[int, Field(ge=1)]
_Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class EncoderConfig(_Section):
    """The encoder of one modality. All keys except ``name`` are options of that encoder."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    name: str = "auto"
    """A registered encoder, or "auto" to choose one by the modality's kind and shape."""

    @property
    def options(self) -> dict[str, Any]:
        """All keys except the name."""
        return dict(self.model_extra or {})


class ModelConfig(_Section):
    """The network: its encoders, projection width and dropout."""

    width: int = Field(512, ge=1)
    """Width d that every modality is projected to."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout rate before each linear head, during training."""
    encoders: dict[str, EncoderConfig] = {}
    """Encoder of each modality; modalities that are not listed get "auto"."""
    frozen: bool = False
    """Run encoders once over all samples, and train only projections and heads on their features."""
    features_folder: Path | None = None
    """Folder for the features of frozen encoders; null: in the user's cache folder."""


FREE_KEYS = (
    "label",
    "project",
    "round0",
    "tracking",
    "model.features_folder",
    "training.workers",
    "training.prefetch",
    "training.checkpoint_minutes",
    "training.spill_folder",
)
"""Keys that do not change results: a run may be resumed with other values."""


class EvidentialConfig(_Section):
    """The evidential loss, which trains the modality heads to output Dirichlet evidence.

    It is used if ``training.loss`` is "evidential".
    """

    evidence: Literal["softplus", "exp", "relu"] = "exp"
    """Evidence function e: alpha = 1 + e(logits). With "exp", logits are bounded above by 10. With "relu",
    a sample without positive logits has no gradient."""
    form: Literal["type-ii", "digamma"] = "type-ii"
    """Data term; "type-ii": log alpha_0 - log alpha_y, "digamma": psi(alpha_0) - psi(alpha_y)."""
    kl_weight: float = Field(0.1, ge=0)
    """Final weight of the penalty for evidence of wrong classes, KL(Dir(y + (1 - y) alpha) || Dir(1))."""
    annealing: float = Field(0.5, ge=0, le=1)
    """Share of the optimizer steps over which the penalty's weight rises linearly from 0; 0: it has its
    final weight from the start."""
    fused_head: bool = True
    """Also train a fused head by cross-entropy. Without it, the fused logits are log alpha_f (Eq 3), whose
    softmax is the expected probability, and strategies and fusions that need a fused head are refused."""


class TrainingConfig(_Section):
    """Training in one round, which starts from the same initial weights unless ``warm_start`` is set."""

    loss: Literal["cross-entropy", "evidential"] = "cross-entropy"
    """Loss of the modality heads; "evidential" trains Dirichlet evidence, see ``evidential``."""
    evidential: EvidentialConfig = EvidentialConfig()
    minibatch_size: int | None = Field(None, ge=1)
    """Maximum number of samples per optimizer step, summed over all processes. The minibatches of an epoch
    differ by one sample at most. null: by the number of labels, 32 up to 512 of them and more above."""
    gradient_accumulation: int = Field(1, ge=1)
    """Number of parts in which a minibatch is processed, to save memory."""
    learning_rate: float = Field(4e-3, gt=0)
    """Learning rate of projections, and of encoders without their own rate."""
    head_learning_rate: float | None = Field(2e-2, gt=0)
    """Learning rate of the linear heads; null: ``learning_rate``."""
    encoder_learning_rates: dict[str, float] = {}
    """Learning rate of each modality's encoder."""
    optimizer: Literal["adamw", "adam"] = "adamw"
    """"adamw" decouples weight decay from the gradient; "adam" adds it to the gradient."""
    betas: tuple[_Beta, _Beta] = (0.9, 0.999)
    """Decay rates of the optimizer's averages of the gradient and of its square."""
    weight_decay: float = Field(1.0, ge=0)
    """Weight decay; biases and normalization layers have none."""
    schedule: Literal["step", "cosine", "constant"] = "cosine"
    """Learning rate schedule; "cosine" falls to 0, "step" divides the rate by 10 at each epoch in
    ``milestones``."""
    milestones: list[_Epoch] | None = None
    """Epochs for "step", which need ``epochs``; null: after two thirds of all epochs (in the paper, epoch 10
    of 15)."""
    max_grad_norm: float | None = Field(None, gt=0)
    """Gradients with a larger l2 norm are clipped to this norm; null: no clipping."""
    warmup_epochs: int = Field(0, ge=0)
    """Epochs in which the learning rate rises to its full value."""
    min_steps: int = Field(0, ge=0)
    """Add epochs until there are this many optimizer steps; useful for very small labeled sets."""
    patience: int | None = Field(None, ge=1)
    """Stop after this many epochs without a lower NLL on the validation set, and use the weights of the
    best epoch; null: train all epochs."""
    augment: bool = True
    """Apply the data set's light augmentation to minibatches."""
    semi_supervised: bool = False
    """Train also on samples without labels, whose classes are spread from the labeled ones over a graph of
    nearest neighbors in the input features. It helps with fewer than about 100 labels of random samples."""
    warm_start: bool = False
    """Continue with the last round's weights instead of the initial ones."""
    predict_batch_size: int = Field(512, ge=1)
    """Samples per forward pass without gradients, in each process."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the encoders; "auto": bf16 on a GPU that supports it, otherwise fp32."""
    compile: bool = False
    """Compile the encoders with torch.compile, which needs a C++ compiler."""
    workers: int | None = Field(None, ge=0)
    """Processes that load data; null: none for data in memory, otherwise one per core."""
    prefetch: int = Field(2, ge=1)
    """Batches that each of these processes loads in advance."""
    checkpoint_minutes: float | None = Field(None, gt=0)
    """Minutes between checkpoints within a round, which limit what a killed run loses; null: one checkpoint
    per round."""
    spill_folder: Path | None = None
    """Folder for outputs of a pool that do not fit into free memory; null: the system's temporary folder."""

    @property
    def evidential_heads(self) -> EvidentialConfig | None:
        """How the modality heads are trained to output evidence; None: by cross-entropy."""
        return self.evidential if self.loss == "evidential" else None

    @model_validator(mode="after")
    def _heads_for_soft_labels(self) -> TrainingConfig:
        if self.semi_supervised and self.loss == "evidential":
            raise ValueError(
                'training.semi_supervised needs the loss "cross-entropy", got "evidential"; set one of '
                "the two to its default"
            )
        return self

    @model_validator(mode="after")
    def _schedule_for_milestones(self) -> TrainingConfig:
        # A stored configuration is complete, and earlier versions accepted milestones with any schedule.
        if self.milestones is not None and "schedule" not in self.model_fields_set:
            raise ValueError(
                f'training.milestones have no effect with the schedule "{self.schedule}", which is the '
                "default; add training.schedule=step, or omit the milestones"
            )
        return self


class AmcbConfig(_Section):
    """Adaptive modality contribution balancing (Eq 1-2)."""

    enabled: bool = True
    """Whether to use it; false is the ablation with uniform weights in fusion, scoring and state."""
    tau: float = Field(1.0, gt=0)
    """Temperature in Eq 2."""
    floor: float = Field(1e-3, ge=0)
    """eps in the floor w~_m = (w_m + eps) / sum_j (w_j + eps)."""


RELATIVE_TO = ("gcnal", "badge", "bmmal")
"""The strategies whose mean learning curve is the baseline of the relative reward (Eq 9)."""


class RewardConfig(_Section):
    """The policy's reward (Eq 8-9), measured on the validation set."""

    kind: Literal["absolute", "incremental", "relative", "siblings"] = "absolute"
    """Kind of reward; "relative" needs ``curves``, and "siblings" is for `rlmba train-policy` only."""
    measure: Literal["top1", "nll"] = "top1"
    """What the reward measures on the validation set: Top-1, or 1 - NLL (in nats), which is less noisy."""
    smoothing: float = Field(0.0, ge=0, lt=1)
    """Weight of the past in the exponential moving average of the reward; 0: no smoothing."""
    baselines: list[str] | None = list(RELATIVE_TO)
    """Strategies (or labels of runs) that must all be in ``curves`` for "relative"; null: whatever
    ``curves`` contain."""
    curves: list[Path] = []
    """Run folders of the baselines, or folders that contain such run folders (`rlmba compare`). Their mean
    Top-1 (or other ``measure``) at the same number of labels is subtracted."""

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
    """A project, in which people label; `rlmba init` writes this section and `rlmba next` uses it."""

    annotator: str = "browser"
    """The annotator: browser, file, labelstudio, or oracle for a rehearsal."""
    annotator_options: dict[str, Any] = {}
    """Options of the annotator."""
    validation_labels: int | None = Field(None, ge=1)
    """Labels in the validation set; missing ones are requested at the start. null: twice the number of
    classes, at least 20."""
    decoded_gigabytes: float = Field(10.0, ge=0)
    """Most decoded media that are kept in the project's folder for encoders that are trained, in GB."""
    name: str | None = Field(None, min_length=1, max_length=200)
    """The project's name for annotators; null: the name of its folder."""
    instructions: str = ""
    """What annotators should know, as plain text; the labeling page and Label Studio show it."""
    class_descriptions: dict[str, str] = {}
    """Descriptions of classes by name, as plain text; the labeling page and Label Studio show them."""


BUDGET_KEYS = (("rounds", "batch_size", "initial_labels"), ("budgets",), ("budgets_per_class",))
"""Groups of keys that say how many labels a run has after each round; a run uses one of them."""


class RunConfig(_Section):
    """Everything that decides a run. ``null`` values are derived from the data, and saved with the run."""

    dataset: str = "digits"
    """A registered data set."""
    data: Path | None = None
    """The file of a data set that is read from a file, such as ``features``."""
    data_root: Path | None = None
    """The folder of a data set that is read from a folder."""
    dataset_options: dict[str, Any] = {}
    """Options of the data set, such as ``modalities`` and ``split`` of ``features``."""
    label: str | None = None
    """The strategy's name in tables and figures, for example of an ablation; null: ``strategy``."""
    strategy: str = "rlmba"
    """A registered strategy."""
    strategy_options: dict[str, Any] = {}
    """Options of the strategy; `rlmba strategies` lists them."""
    seed: int = Field(0, ge=0)
    """Seed of splits, initial labels, initial weights, minibatches and random selections."""
    rounds: int | None = Field(None, ge=0)
    """T, the number of query rounds after round 0; null: 8, or as many as the pool allows."""
    batch_size: int | None = Field(None, ge=1)
    """b, the number of labels queried per round; null: twice the number of classes."""
    initial_labels: int | None = Field(None, ge=1)
    """Number of labels in round 0; null: twice the number of classes."""
    budgets: list[_Count] | None = None
    """Numbers of labels outside the validation set after round 0, 1, ..., such as [20, 40, 80], strictly
    increasing; replaces ``rounds``, ``batch_size`` and ``initial_labels``."""
    budgets_per_class: list[_Count] | None = None
    """The same as multiples of the number of classes; replaces ``budgets``."""
    initial_sampling: Literal["stratified", "random", "herding"] = "stratified"
    """How initial samples are chosen; "stratified" includes every class, "random" draws uniformly,
    "herding" covers the training samples by their input features without their labels, as projects do.
    With the last two, classes may be missing."""
    initial_ids: Path | None = None
    """A file with one id per line, which replaces drawn initial samples (such as BMMAL's ``label.txt``)."""
    round0: Path | None = None
    """A run folder whose round 0 is reused if it was trained with the same settings."""
    validation_fraction: float = Field(0.1, gt=0, lt=1)
    """Share of the training samples in the validation set, which is stratified and never queried."""
    epochs: int | None = Field(None, ge=1)
    """E, the number of training epochs per round; null: by the number of labels, so that there are about
    100 optimizer steps for 100 labels and 200 for 1,000."""
    fusion: Literal["amcb", "adaptive", "uniform", "concat"] = "amcb"
    """How modalities are fused, independently of the strategy."""
    predictor: Literal["fused", "pooled"] = "fused"
    """The predictor; "pooled" adds the calibrated log-probabilities of all heads."""
    adaptive_penalty: float = Field(1.0, ge=0)
    """lambda of the adaptive fusion, which pulls the weights towards uniform ones."""
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    amcb: AmcbConfig = AmcbConfig()
    reward: RewardConfig = RewardConfig()
    project: ProjectConfig = ProjectConfig()
    device: str = "auto"
    """The device: "auto", "cpu" or a torch device."""
    tracking: list[Literal["tensorboard", "mlflow", "wandb", "trackio"]] = []
    """Experiment trackers that get the configuration, the numbers of every round and the report."""

    @model_validator(mode="after")
    def _epochs_for_milestones(self) -> RunConfig:
        training = self.training
        if training.schedule == "step" and training.milestones is not None and self.epochs is None:
            raise ValueError(
                "training.milestones are epochs, but epochs is null, so that their number depends on the "
                "number of labels; set epochs (in the paper, 15), or set training.milestones to null"
            )
        return self

    @model_validator(mode="after")
    def _one_way_to_say_budgets(self) -> RunConfig:
        given = [k for keys in BUDGET_KEYS for k in keys if getattr(self, k) is not None]
        if sum(any(k in given for k in keys) for keys in BUDGET_KEYS) > 1:
            raise ValueError(
                f"expected either budgets, or budgets_per_class, or rounds, batch_size and "
                f"initial_labels, got {', '.join(given)} together; set the others to null"
            )
        for key in ("budgets", "budgets_per_class"):
            counts = getattr(self, key)
            if counts is not None and (not counts or any(a >= b for a, b in pairwise(counts))):
                raise ValueError(
                    f"{key}: expected strictly increasing numbers of labels, such as [20, 40, 80], "
                    f"got {counts}"
                )
        return self

    def counts(self, classes: int) -> tuple[int, ...]:
        """The numbers of labels that ``budgets`` or ``budgets_per_class`` request; empty without them.

        Parameters
        ----------
        classes : int
            Number of classes; while fewer than two are known, two are assumed.
        """
        if self.budgets_per_class is not None:
            return tuple(k * max(classes, 2) for k in self.budgets_per_class)
        return tuple(self.budgets or ())

    @property
    def label_counts(self) -> tuple[int, ...]:
        """Labels outside the validation set after each round of a resolved configuration."""
        if self.budgets is not None:
            return tuple(self.budgets)
        first, batch = int(self.initial_labels or 0), int(self.batch_size or 0)
        return tuple(first + batch * t for t in range(int(self.rounds or 0) + 1))

    @property
    def last_round(self) -> int | None:
        """The number of the last round, counted from 0; None if that is not decided."""
        counts = self.budgets or self.budgets_per_class
        return self.rounds if counts is None else len(counts) - 1

    def round0_only(self) -> RunConfig:
        """The same configuration, but the run ends after round 0."""
        for key in ("budgets", "budgets_per_class"):
            if (counts := getattr(self, key)) is not None:
                return self.model_copy(update={key: counts[:1]})
        return self.model_copy(update={"rounds": 0})

    @model_validator(mode="after")
    def _fused_head_where_needed(self) -> RunConfig:
        heads = self.training.evidential_heads
        if self.fusion == "adaptive" and heads is not None and not heads.fused_head:
            raise ValueError(
                "fusion adaptive: expected a fused head, whose likelihood it maximizes, but "
                "training.evidential.fused_head is false; set it to true, or choose another fusion"
            )
        return self
