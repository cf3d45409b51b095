"""What a test of a machine with GPUs runs in a process of its own: Ray has logical GPUs there, and torch has none, so
that jobs take the way of a GPU through placement and batching, with the model on the CPU.

    python -m tests.support.logical_gpus GPUS SCENARIO FOLDER
"""

import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from PIL import Image
from torch import Tensor

from ssvq.config import EvaluateConfig, ExperimentConfig, NightlyConfig, ScoreConfig, ScoringSettings
from ssvq.errors import InputError
from ssvq.evaluation.job import evaluate
from ssvq.experiments.job import experiment
from ssvq.inference.devices import Gpu
from ssvq.inference.scorer import TileScorer
from ssvq.nightly.job import nightly
from ssvq.scoring.job import score
from ssvq.scoring.stages import load_scorer
from ssvq.training.job import train
from tests.support.images import write_image
from tests.support.surveys import TILE, make_bundle, make_survey, paint, tiny_training


class Machine:
    """A survey, a model, and jobs with them; `done` is what each job ended with."""

    def __init__(self, root: Path) -> None:
        self.root, self.survey, self.model = root, make_survey(root), root / "bundle"
        make_bundle(self.model)
        self.done: dict[str, Any] = {}

    def score(self, name: str, **settings: Any) -> None:
        """Score the survey into an output of this name, and note how many scorers there were."""
        scorers = self.root / "scorers" / name
        scorers.mkdir(parents=True)
        config = ScoreConfig(
            survey=str(self.survey / "images"), model=str(self.model), out=str(self.root / name), **settings
        )
        code = score(config, make_scorer=noted(scorers))
        self.done[name] = [code, len(list(scorers.iterdir()))]


def noted(folder: Path) -> Callable[[ScoringSettings], TileScorer]:
    """`load_scorer` that leaves a file for each process."""

    def make(config: ScoringSettings) -> TileScorer:
        (folder / str(os.getpid())).touch()
        return load_scorer(config)

    return make


def score_once(machine: Machine) -> None:
    """As it is run on a machine with a GPU."""
    machine.score("default")


def score_otherwise(machine: Machine) -> None:
    """Shares of GPUs, fewer scorers than GPUs, a pool that grows, the GPU left alone."""
    machine.score("half", gpus_per_scorer=0.5)
    machine.score("one", scorers=1)
    machine.score("grows", max_scorers=2, gpus_per_scorer=0.5)
    machine.score("cpu", device="cpu")


class Pillow:
    """Decodes JPEG files on the CPU, where a GPU would; it refuses pictures of 64 x 64 pixels in colour."""

    name = "Pillow"

    def decode(self, files: Sequence[bytes]) -> list[Tensor | None]:
        """As `JpegDecoder.decode`."""
        return [self._one(Image.open(io.BytesIO(file))) for file in files]

    def _one(self, picture: Image.Image) -> Tensor | None:
        if picture.size == (64, 64) and picture.mode == "RGB":
            return None
        try:
            return torch.from_numpy(np.array(picture.convert("RGB")))
        except OSError:
            return None


def decoding_scorer(config: ScoringSettings) -> TileScorer:
    """A scorer that decodes JPEG files, and fills batches as that of a GPU does."""
    scorer = TileScorer.from_bundle(config.model, 16, "cpu", "fp32")
    scorer.jpegs = Pillow() if config.decode == "gpu" else None
    scorer._runner = Gpu(scorer._score_batch, 16, scorer.device)
    return scorer


def score_files(machine: Machine) -> None:
    """JPEG files of many kinds, decoded by readers and by the scorer; and a machine without what decodes on a GPU."""
    rng = np.random.default_rng(0)
    survey = machine.root / "files"
    for number, (height, width) in enumerate(((64, 96), (70, 90), (TILE, TILE))):
        write_image(survey / f"{number}.jpg", paint(rng, height, width, rough=True)[0])
    write_image(survey / "grey.jpg", paint(rng, 64, 64, rough=True)[0][..., 0])
    write_image(survey / "refused.jpg", paint(rng, 64, 64, rough=True)[0])
    write_image(survey / "small.jpg", paint(rng, 20, 30, rough=True)[0])
    write_image(survey / "other.png", paint(rng, 64, 64, rough=True)[0])
    (survey / "broken.jpg").write_bytes((survey / "0.jpg").read_bytes()[:-400])
    names = {"survey": str(survey), "model": str(machine.model), "precision": "fp32"}
    for decode in ("cpu", "gpu"):
        config = ScoreConfig(**names, out=str(machine.root / f"decoded on {decode}"), decode=decode)
        machine.done[decode] = score(config, make_scorer=decoding_scorer)
    try:
        score(ScoreConfig(**names, out=str(machine.root / "refused"), decode="gpu"))
    except InputError as error:
        machine.done["refusal"] = str(error)


def other_jobs(machine: Machine) -> None:
    """Training with as many workers as GPUs, evaluation, a night, an experiment."""
    gpus = int(ray.cluster_resources()["GPU"])
    machine.done["train"] = train(tiny_training(machine.survey, machine.root / "trained", num_workers=gpus))
    labelled = {"images": str(machine.survey / "images"), "masks": str(machine.survey / "masks")}
    machine.done["evaluate"] = evaluate(EvaluateConfig(**labelled, model=str(machine.model), bootstrap=0))
    night = NightlyConfig(root=str(machine.survey), model=str(machine.model), out=str(machine.root / "nights"))
    machine.done["nightly"] = nightly(night)
    cells = ExperimentConfig(
        name="supervision",
        data=str(machine.survey),
        out=str(machine.root / "experiment"),
        preset="smoke",
        methods=["ss-vq-vae"],
        gammas=[0.2],
        seeds=1,
    )
    machine.done["experiment"] = experiment(cells)


if __name__ == "__main__":
    gpus, scenario, folder = sys.argv[1:]
    ray.init(num_cpus=6, num_gpus=int(gpus), include_dashboard=False, log_to_driver=False)
    machine = Machine(Path(folder))
    {"once": score_once, "otherwise": score_otherwise, "files": score_files, "jobs": other_jobs}[scenario](machine)
    print("DONE", json.dumps(machine.done))
