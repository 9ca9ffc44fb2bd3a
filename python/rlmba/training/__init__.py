"""Training, prediction and evaluation of the network, and its checkpoints."""

from __future__ import annotations

from rlmba.training.calibration import fit_temperature, fit_temperatures
from rlmba.training.checkpoint import (
    assign_tensors,
    config_hash,
    load_model,
    load_tensors,
    save_model,
    save_tensors,
)
from rlmba.training.compiling import compile_encoders
from rlmba.training.contributions import shapley_contributions
from rlmba.training.dropout import dropout_logits
from rlmba.training.evaluate import evaluate, head_log_probs
from rlmba.training.feature_store import FeatureStore
from rlmba.training.fit import fit, labeled_checksum
from rlmba.training.fit_state import FitCheckpoint
from rlmba.training.frozen import compute_features, encoder_identity
from rlmba.training.fusion_weights import adaptive_fusion_weights
from rlmba.training.loading import Loader, worker_deaths
from rlmba.training.loss import multimodal_loss
from rlmba.training.minibatches import minibatch_size_for, steps_for
from rlmba.training.predict import fits_on_gpu, predict
from rlmba.training.processes import ProcessGroup, rank_and_size, reports_error
from rlmba.training.soft_labels import SoftLabels
from rlmba.training.stacked import LabeledSamples, can_stack, fit_stacked, needs_own_training

__all__ = [
    "FeatureStore",
    "FitCheckpoint",
    "LabeledSamples",
    "Loader",
    "ProcessGroup",
    "SoftLabels",
    "adaptive_fusion_weights",
    "assign_tensors",
    "can_stack",
    "compile_encoders",
    "compute_features",
    "config_hash",
    "dropout_logits",
    "encoder_identity",
    "evaluate",
    "fit",
    "fit_stacked",
    "fit_temperature",
    "fit_temperatures",
    "fits_on_gpu",
    "head_log_probs",
    "labeled_checksum",
    "load_model",
    "load_tensors",
    "minibatch_size_for",
    "multimodal_loss",
    "needs_own_training",
    "predict",
    "rank_and_size",
    "reports_error",
    "save_model",
    "save_tensors",
    "shapley_contributions",
    "steps_for",
    "worker_deaths",
]
