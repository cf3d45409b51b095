"""Every setting of every command: typed, validated, documented; the one place where defaults stand."""

from ssvq.config.base import ENV_PREFIX, Command, Device, Location, Precision, ReadLimits, Section
from ssvq.config.data import LabelledImages
from ssvq.config.learning import Architecture, Augmentation, CodebookSettings, Objective, Optimiser
from ssvq.config.results import DemoConfig, OverlayConfig, QueryConfig
from ssvq.config.scoring import EvaluateConfig, ScoreConfig, ScoringSettings
from ssvq.config.training import TrainConfig, training_identity

__all__ = [
    "ENV_PREFIX",
    "Architecture",
    "Augmentation",
    "CodebookSettings",
    "Command",
    "DemoConfig",
    "Device",
    "EvaluateConfig",
    "LabelledImages",
    "Location",
    "Objective",
    "Optimiser",
    "OverlayConfig",
    "Precision",
    "QueryConfig",
    "ReadLimits",
    "ScoreConfig",
    "ScoringSettings",
    "Section",
    "TrainConfig",
    "training_identity",
]
