"""Training, prediction and evaluation of the network, and its checkpoints."""

from __future__ import annotations

from rlmba.training.calibration import fit_temperature, fit_temperatures
from rlmba.training.checkpoint import (
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
from rlmba.training.fit import fit, labeled_checksum
from rlmba.training.fit_state import FitCheckpoint
from rlmba.training.frozen import features_name, frozen_features
from rlmba.training.fusion_weights import adaptive_fusion_weights
from rlmba.training.loading import Loader, worker_deaths
from rlmba.training.loss import multimodal_loss
from rlmba.training.mesh import Mesh, launched, may_speak
from rlmba.training.predict import fits_beside, predict
from rlmba.training.together import Samples, fit_together, go_together, trains_alone

__all__ = [
    "FitCheckpoint",
    "Loader",
    "Mesh",
    "Samples",
    "adaptive_fusion_weights",
    "compile_encoders",
    "config_hash",
    "dropout_logits",
    "evaluate",
    "features_name",
    "fit",
    "fit_temperature",
    "fit_temperatures",
    "fit_together",
    "fits_beside",
    "frozen_features",
    "go_together",
    "head_log_probs",
    "labeled_checksum",
    "launched",
    "load_model",
    "load_tensors",
    "may_speak",
    "multimodal_loss",
    "predict",
    "save_model",
    "save_tensors",
    "shapley_contributions",
    "trains_alone",
    "worker_deaths",
]
