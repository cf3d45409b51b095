"""Jobs on a test cluster that are to be disturbed: what they read, when they are half done, what shall be true then."""

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssvq.imagery.catalog import list_images
from ssvq.io import storage
from ssvq.model import bundle as bundles
from ssvq.scores.data_set import Scores
from ssvq.scores.layout import Partition
from ssvq.scores.ledger import not_done, read_ledger, read_state
from tests.support.images import write_image
from tests.support.surveys import make_bundle, make_survey, paint, tiny_training

IMAGES = 384  # three units of work, of 128 images each
SIDES = (96, 128, 160)
TRAINING_IMAGES, STEPS, CHECKPOINT_EVERY, WORKERS = 24, 120, 10, 3
STORAGE_TIMEOUT = 120
TOLERANCE = 1e-3  # of the norm of each of the weights and buffers of a model


def upload(folder: Path, address: str) -> None:
    """Copy a folder to S3, without what is there already: a new copy would be a new image."""
    there = {info.path for info in storage.list_files(address)}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        if name not in there:
            storage.put(storage.join(address, name), file.read_bytes())


@dataclass
class ScoringJob:
    """`jobs/score.py` over a survey on S3; `root` is where the survey, the model and all outputs are."""

    root: str
    images: int = IMAGES
    _reference: dict[str, float] = field(default_factory=dict, repr=False)

    @property
    def survey(self) -> str:
        """The images."""
        return storage.join(self.root, f"survey-{self.images}")

    @property
    def model(self) -> str:
        """The bundle."""
        return storage.join(self.root, "bundle")

    def prepare(self, folder: Path) -> None:
        """Put survey and model on S3, by way of a folder of this machine, unless they are there."""
        if len(list(storage.list_files(self.survey))) == self.images and bundles.is_finished(self.model):
            return
        rng = np.random.default_rng(0)
        for i in range(self.images):
            height, width = rng.choice(SIDES, 2)
            write_image(folder / "survey" / f"{i:04}.png", paint(rng, int(height), int(width), rough=i % 2 == 1)[0])
        upload(folder / "survey", self.survey)
        make_bundle(folder / "bundle")
        upload(folder / "bundle", self.model)

    def command(self, out: str) -> list[str]:
        """The job as it is run on the head."""
        options = {"survey": self.survey, "survey-name": "survey", "model": self.model, "out": out}
        options["storage-timeout"] = str(STORAGE_TIMEOUT)
        return [
            sys.executable,
            "jobs/score.py",
            *(text for name, value in options.items() for text in (f"--{name}", value)),
        ]

    @cached_property
    def partition_names(self) -> tuple[str, str]:
        """The model's and the tiling's identity."""
        bundle = bundles.read_description(self.model)
        return bundle.model_id, bundle.preprocessing.tiling.tiling_id

    def partition(self, out: str) -> Partition:
        """Where an output's score maps are."""
        return Partition(out, "survey", *self.partition_names)

    def problems(self, out: str, reference: str) -> list[str]:
        """What is wrong with an output against that of an undisturbed run; nothing when all is well."""
        rows = self._rows(out)
        expected = self._reference = self._reference or {tile: score for _, tile, score in self._rows(reference)}
        return [*score_problems(rows, expected), *self._ledger_problems(out, Counter(image for image, _, _ in rows))]

    def _rows(self, out: str) -> list[tuple[str, str, float]]:
        """Image, tile and score of every row of the score maps."""
        rows = Scores(out).sql("SELECT image_id, tile_id, score FROM tiles")
        return list(zip(*(rows[name].to_pylist() for name in rows.column_names), strict=True))

    def _ledger_problems(self, out: str, tiles: Counter[str]) -> list[str]:
        images = list_images(self.survey, "--survey")
        state = read_state(read_ledger(out, "survey"), self.partition(out))
        rows = {row["image_id"]: row for row in state.latest.to_pylist()}
        problems = []
        if rows.keys() != {image.image_id for image in images}:
            problems.append(f"the ledger has {len(rows)} images of {len(images)}")
        if undone := not_done(images, state):
            problems.append(f"{len(undone)} images are not done by the ledger")
        if wrong := [name for name, row in rows.items() if row["status"] != "scored" or row["tiles"] != tiles[name]]:
            problems.append(f"{len(wrong)} rows of the ledger are not what the score maps say")
        return problems


def score_problems(rows: list[tuple[str, str, float]], expected: dict[str, float]) -> list[str]:
    """How rows (image, tile, score) differ from the scores by tile that are expected."""
    found = {tile: score for _, tile, score in rows}
    if len(found) != len(rows):
        return [f"{len(rows)} rows for {len(found)} tiles"]
    if found.keys() != expected.keys():
        return [f"{len(expected.keys() - found.keys())} tiles missing, {len(found.keys() - expected.keys())} too many"]
    difference = max(abs(found[tile] - expected[tile]) / abs(expected[tile]) for tile in expected)
    return [f"scores differ by {difference:.1g}"] if difference > 1e-6 else []


@dataclass
class TrainingJob:
    """`jobs/train.py` with a worker on each of three nodes; images and checkpoints are on S3."""

    root: str
    settings: Path
    """Where its settings are written, on this machine."""
    steps: int = STEPS

    def prepare(self, folder: Path) -> None:
        """Put the labelled images on S3, by way of a folder of this machine, and write the settings."""
        survey = make_survey(folder / "labelled", images=TRAINING_IMAGES)
        upload(survey, storage.join(self.root, "labelled"))
        config = tiny_training(
            survey,
            "bundle",
            steps=self.steps,
            validate_every=CHECKPOINT_EVERY,
            batch_size=12,
            num_workers=WORKERS,
            storage_timeout=STORAGE_TIMEOUT,
        )
        places = {name: storage.join(self.root, "labelled", name) for name in ("images", "masks")}
        saved = {name: value for name, value in config.saved().items() if name != "out"}
        self.settings.write_text(json.dumps(saved | places))

    def command(self, out: str) -> list[str]:
        """The job as it is run on the head."""
        return [sys.executable, "jobs/train.py", "--config", str(self.settings), "--out", out]

    def has_checkpoint(self, out: str) -> bool:
        """Whether there is a whole checkpoint, and another begun."""
        folder = storage.join(out, "checkpoints", "train")
        return len({info.path.split("/")[0] for info in storage.list_files(folder) if "checkpoint_" in info.path}) >= 2

    def figures(self, out: str) -> list[dict[str, Any]]:
        """The figures of each step."""
        return [json.loads(line) for line in storage.read_text(storage.join(out, "metrics.jsonl")).splitlines()]

    def went_on_at(self, out: str, since: float) -> int:
        """The first step that was taken after a time (seconds since 1970) and is not of the undisturbed part."""
        return int(min((row["step"] for row in self.figures(out) if row["time"] > since), default=self.steps))

    def problems(self, out: str, reference: str) -> list[str]:
        """What is wrong with a bundle against that of an undisturbed run; nothing when all is well."""
        if not bundles.is_finished(out):
            return ["there is no bundle"]
        problems = []
        steps = [int(row["step"]) for row in self.figures(out)]
        if steps != list(range(1, self.steps + 1)):
            problems.append(f"metrics.jsonl has {len(steps)} steps of {self.steps}")
        found, expected = (bundles.read_weights(place, bundles.read_description(place)) for place in (out, reference))
        # Sums in another order differ by rounding, which Adam and the choice of codes carry on: single weights may be
        # further apart than all together.
        differing = [
            name
            for name, weights in expected.items()
            # Not `>`, which is false of a NaN.
            if not torch.linalg.vector_norm(found[name] - weights) <= TOLERANCE * torch.linalg.vector_norm(weights)
        ]
        return [*problems, *(f"{name} is another" for name in differing)]
