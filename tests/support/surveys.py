"""Tiny labelled surveys, and settings that train on them in seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ssvq.config import Architecture, CodebookSettings, Objective, TrainConfig
from ssvq.methods.build import build_method, method_settings
from ssvq.model import bundle as bundles
from ssvq.model.calibration import calibrate_columns
from ssvq.model.description import Bundle, Preprocessing
from ssvq.model.encoders import cell_of
from tests.support.images import write_image

TILE = 32
TINY = Architecture(hidden=16, residual_hidden=8, residual_layers=1, codes=32, dimensions=8)

BUNDLE_FILES = [
    "README.md",
    "bundle.json",
    "config.json",
    "held-out.parquet",
    "manifest.csv",
    "metrics.jsonl",
    "model.safetensors",
    "tensorboard/events.out.tfevents.ssvq",
]


def paint(rng: np.random.Generator, height: int, width: int, *, rough: bool) -> tuple[np.ndarray, np.ndarray]:
    """A smooth grey image, its left half rough when asked; pixels uint8 (h, w, 3) and mask uint8 (h, w)."""
    ramp = np.linspace(0, 40, width)[None, :, None] + rng.integers(60, 160)
    pixels = np.broadcast_to(ramp, (height, width, 3)) + rng.normal(0, 2, (height, width, 3))
    mask = np.zeros((height, width), np.uint8)
    if rough:
        pixels[:, : width // 2] += rng.normal(0, 60, (height, width // 2, 1))
        mask[:, : width // 2] = 2
    return np.clip(pixels, 0, 255).astype(np.uint8), mask


def make_survey(root: Path, images: int = 8, height: int = 64, width: int = 128, seed: int = 0) -> Path:
    """root/images/*.png and root/masks/*.png; every second image is rough on its left half."""
    rng = np.random.default_rng(seed)
    for i in range(images):
        pixels, mask = paint(rng, height, width, rough=i % 2 == 1)
        write_image(root / "images" / f"{i:02}.png", pixels)
        write_image(root / "masks" / f"{i:02}.png", mask)
    return root


def tiny_training(survey: Path, out: Path | str, **changes: Any) -> TrainConfig:
    """Settings of a training that takes seconds."""
    settings: dict[str, Any] = {
        "images": str(survey / "images"),
        "masks": str(survey / "masks"),
        "out": str(out),
        "tile_size": TILE,
        "steps": 6,
        "batch_size": 8,
        "validate_every": 3,
        "log_every": 1,
        "validation_fraction": 0.25,
        "calibration_fraction": 0.25,
        "precision": "fp32",
        "architecture": TINY,
    }
    return TrainConfig(**settings | changes)


def make_bundle(
    location: Path | str,
    *,
    threshold: float | None = None,
    seed: int = 0,
    tile_size: int = TILE,
    architecture: Architecture = TINY,
    method: str = "ss-vq-vae",
    prepare: Callable[[Any], None] = lambda method: None,
) -> Bundle:
    """A bundle of untrained weights, for tests and timings of what is done with one; `prepare` may change them."""
    import torch

    torch.manual_seed(seed)
    untrained = {"objective": Objective(), "codebook": CodebookSettings(), "architecture": architecture}
    config = tiny_training(Path("survey"), str(location), method=method, **untrained)
    settings = method_settings(config)
    built = build_method(config.method, settings)
    prepare(built)
    weights = bundles.encode_weights(built.state_dict())
    preprocessing = Preprocessing(
        tile_size=tile_size, cell=cell_of(architecture), mean=(0.4, 0.4, 0.4), std=(0.2, 0.2, 0.2)
    )
    scores = np.linspace(1, 20, 50)
    calibration = calibrate_columns(np.stack([scores, 2 * scores], axis=1), np.arange(50) >= 40, "score")
    if threshold is not None:
        calibration = calibration.model_copy(update={"threshold": threshold})
    bundle = Bundle(
        model_id=bundles.model_id(config.method, settings, preprocessing, bundles.sha256(weights)),
        method=config.method,
        settings=settings,
        preprocessing=preprocessing,
        weights_sha256=bundles.sha256(weights),
        calibration=calibration,
        metrics={},
        training={"config": config.saved()},
        created_at="2026-01-01T00:00:00Z",
        ssvq_version="0",
    )
    bundles.save_bundle(str(location), bundle, weights)
    return bundle
