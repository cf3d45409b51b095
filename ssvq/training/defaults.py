"""Settings that depend on others or on labels: resolves `auto` and defaults."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ssvq.errors import InputError
from ssvq.imagery.catalog import NORMAL_LABEL, SourceImage
from ssvq.imagery.grid import CELL
from ssvq.model.encoders import PACKAGED, PAPER
from ssvq.training.settings import TrainConfig

SMALLEST_SIDE = 128  # side of a tile or crop: a pretrained network sees too little of a smaller one
CROPPED_FROM = 512  # side of tiles from which crops of half the side are taken
PIXELS_IN_STEP = 16 * 512**2  # pixels of the samples of a step: 16 tiles, or 64 crops of half their side
STEPS, VALIDATE_EVERY = 200, 50


def has_anomalies(index: pa.Table, images: list[SourceImage], config: TrainConfig) -> bool:
    """Whether the training may see labelled anomalous tiles."""
    fractions = index["anomalous_fraction"].fill_null(0)
    return config.supervision > 0 and (
        (pc.max(fractions).as_py() or 0) >= config.anomalous_fraction
        or any(image.label not in (None, NORMAL_LABEL) for image in images)
    )


def resolved(config: TrainConfig, *, labelled: bool) -> tuple[TrainConfig, str]:
    """The settings with all defaults resolved, and a line that explains the choice of the encoder.

    The rule: ss-vq-vae with labelled anomalies, on samples of at least 128 pixels, gets the pretrained network whose
    weights are installed; everything else gets the paper's encoder. Settings of the user stay.
    """
    encoder, reason = config.architecture.encoder, "as set"
    if encoder == "auto":
        encoder, reason = _encoder(config, labelled)
    pretrained = encoder != PAPER
    labels = config.objective.labels
    if labels == "auto":
        labels = "cell" if pretrained else "tile"
    changes: dict[str, Any] = {
        "architecture": config.architecture.model_copy(update={"encoder": encoder, "scale": _scale(config)}),
        "objective": config.objective.model_copy(update={"labels": labels}),
    }
    if pretrained:
        changes |= {name: value for name, value in _pretrained(config).items() if name not in config.model_fields_set}
    return config.model_copy(update=changes), f"encoder {encoder}: {reason}"


def check_sides(config: TrainConfig) -> None:
    """Raises InputError if the encoder cannot be built, or cannot take tiles or crops of this size."""
    given = {"--tile-size": config.tile_size, "--crop": config.crop}
    for setting, side in given.items():
        if side is None:
            continue
        if config.architecture.encoder in (PAPER, "auto"):
            if side % CELL:
                raise InputError(f"{setting} {side} is not a multiple of the latent cell of {CELL} pixels")
        else:
            from ssvq.model.encoders.networks import check_side  # timm takes seconds to import

            check_side(config.architecture.model_copy(update={"scale": _scale(config)}), side, setting)


def _scale(config: TrainConfig) -> float:
    return config.architecture.scale or (1.0 if config.whole_images else 0.5)


def _encoder(config: TrainConfig, labelled: bool) -> tuple[str, str]:
    if config.method == "patch-knn":
        return PACKAGED, "the default of patch-knn; pretrained on ImageNet, Apache-2.0"
    if config.method != "ss-vq-vae":
        return PAPER, f"the default of {config.method}"
    if not labelled:
        return PAPER, "the default without labelled anomalies"
    if config.sample_size < SMALLEST_SIDE:
        return PAPER, f"the default for samples under {SMALLEST_SIDE} pixels"
    return PACKAGED, "the default with labelled anomalies; pretrained on ImageNet, Apache-2.0"


def _pretrained(config: TrainConfig) -> dict[str, Any]:
    """Defaults of a training with a pretrained network, which learns within hundreds of steps."""
    crop = config.crop
    if crop is None and not config.whole_images and config.tile_size >= CROPPED_FROM and config.tile_size % 64 == 0:
        crop = config.tile_size // 2
    side = crop or config.tile_size
    batch = max(8, min(64, PIXELS_IN_STEP // side**2)) // 2 * 2
    return {"crop": crop, "batch_size": batch, "steps": STEPS, "validate_every": VALIDATE_EVERY}
