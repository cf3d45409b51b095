"""ssvq: semi-supervised VQ-VAE anomaly detection for industrial inspection, as Ray batch jobs.

The names below are all that a notebook needs. Each is imported when it is first used: `import ssvq` alone loads neither
torch nor Ray.

    import ssvq

    ssvq.train(ssvq.TrainConfig(images="photos", masks="masks", out="bundle"))
    ssvq.score(ssvq.ScoreConfig(survey="survey", model="bundle", out="scores"))
    worst = ssvq.Scores("scores").sql("SELECT image_uri, score FROM tiles ORDER BY score DESC LIMIT 10").to_pandas()
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from ssvq.evaluation.job import evaluate_model as evaluate
    from ssvq.evaluation.settings import EvaluateConfig
    from ssvq.inference.scorer import load_model
    from ssvq.results.findings.job import findings
    from ssvq.results.findings.settings import FindingsConfig
    from ssvq.scores.data_set import Scores
    from ssvq.scoring.job import score
    from ssvq.scoring.settings import ScoreConfig
    from ssvq.training.job import train
    from ssvq.training.settings import TrainConfig

_PLACES = {
    "train": "ssvq.training.job:train",
    "score": "ssvq.scoring.job:score",
    "evaluate": "ssvq.evaluation.job:evaluate_model",
    "findings": "ssvq.results.findings.job:findings",
    "load_model": "ssvq.inference.scorer:load_model",
    "Scores": "ssvq.scores.data_set:Scores",
    "TrainConfig": "ssvq.training.settings:TrainConfig",
    "ScoreConfig": "ssvq.scoring.settings:ScoreConfig",
    "EvaluateConfig": "ssvq.evaluation.settings:EvaluateConfig",
    "FindingsConfig": "ssvq.results.findings.settings:FindingsConfig",
}

__all__ = [
    "EvaluateConfig",
    "FindingsConfig",
    "ScoreConfig",
    "Scores",
    "TrainConfig",
    "__version__",
    "evaluate",
    "findings",
    "load_model",
    "score",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'ssvq' has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
