"""The settings of all commands: typed, validated, documented. Each is defined beside its owner and listed here."""

from ssvq.check.settings import CheckConfig
from ssvq.demo.settings import DemoConfig
from ssvq.evaluation.settings import EvaluateConfig
from ssvq.experiments.settings import ExperimentConfig
from ssvq.handover.settings import ExportModelConfig
from ssvq.imagery.settings import LabelledImages, ReadLimits, StoredPixels
from ssvq.methods.settings import Bottleneck, Flow, Hypersphere, Kernel, Memory, Objective, Pretraining
from ssvq.model.settings import Architecture, CodebookSettings
from ssvq.nightly.settings import NightlyConfig
from ssvq.results.export.settings import ExportConfig
from ssvq.results.findings.settings import FindingsConfig
from ssvq.results.pictures.settings import OverlayConfig
from ssvq.results.report.settings import ReportConfig
from ssvq.results.settings import LabelConfig, PublishConfig, QueryConfig, TileLabel
from ssvq.scoring.settings import ScoreConfig, ScoringSettings
from ssvq.settings import ENV_PREFIX, Command, Device, Location, Precision, Section
from ssvq.training.settings import Augmentation, Optimiser, TrainConfig

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
    "ExportModelConfig",
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
]
