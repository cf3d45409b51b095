"""Every setting of every command: typed, validated, documented; the one place where defaults stand."""

from ssvq.config.base import ENV_PREFIX, Command, Device, Location, Precision, ReadLimits, Section
from ssvq.config.check import CheckConfig
from ssvq.config.data import LabelledImages, StoredPixels
from ssvq.config.experiment import ExperimentConfig
from ssvq.config.export import ExportConfig
from ssvq.config.findings import FindingsConfig
from ssvq.config.labels import LabelConfig, TileLabel
from ssvq.config.learning import (
    Architecture,
    Augmentation,
    Bottleneck,
    CodebookSettings,
    Flow,
    Hypersphere,
    Kernel,
    Memory,
    Objective,
    Optimiser,
    Pretraining,
)
from ssvq.config.nightly import NightlyConfig
from ssvq.config.report import ReportConfig
from ssvq.config.results import DemoConfig, OverlayConfig, PublishConfig, QueryConfig
from ssvq.config.scoring import EvaluateConfig, ScoreConfig, ScoringSettings
from ssvq.config.training import TrainConfig, training_identity

__all__ = [
    "ENV_PREFIX",
    "Architecture",
    "Augmentation",
    "Bottleneck",
    "CheckConfig",
    "CodebookSettings",
    "Command",
    "DemoConfig",
    "Device",
    "EvaluateConfig",
    "ExperimentConfig",
    "ExportConfig",
    "FindingsConfig",
    "Flow",
    "Hypersphere",
    "Kernel",
    "LabelConfig",
    "LabelledImages",
    "Location",
    "Memory",
    "NightlyConfig",
    "Objective",
    "Optimiser",
    "OverlayConfig",
    "Precision",
    "Pretraining",
    "PublishConfig",
    "QueryConfig",
    "ReadLimits",
    "ReportConfig",
    "ScoreConfig",
    "ScoringSettings",
    "Section",
    "StoredPixels",
    "TileLabel",
    "TrainConfig",
    "training_identity",
]
