"""The normalisation of pixels: from the normal training tiles, or from the pretrained network."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ssvq.model.description import Preprocessing
from ssvq.model.encoders import PAPER, cell_of
from ssvq.training.settings import TrainConfig
from ssvq.training.tile_cache import CHANNELS

Channels = tuple[float, float, float]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # if timm has no values for a network


def preprocessing_of(index: pa.Table, tiles: NDArray[np.int64], config: TrainConfig) -> Preprocessing:
    of_network = config.architecture.encoder != PAPER
    mean, std = _statistics_of_network(config) if of_network else _statistics(index.take(tiles))
    return Preprocessing(
        tile_size=config.tile_size,
        whole_images=config.whole_images,
        cell=cell_of(config.architecture),
        pixels=config.pixel_rule,
        mean=mean,
        std=std,
    )


def _statistics(tiles: pa.Table) -> tuple[Channels, Channels]:
    """Mean and standard deviation by channel over the normal training tiles.

    The reconstruction error is then in units of the pixels' variance, comparable with the latent terms.
    """
    mean, mean_square = (
        np.stack([tiles[f"{statistic}_{channel}"].to_numpy() for channel in CHANNELS], axis=1).mean(axis=0)
        for statistic in ("mean", "mean_square")
    )
    std = np.sqrt(np.maximum(mean_square - mean**2, 1e-6))
    return tuple(mean.tolist()), tuple(std.tolist())


def _statistics_of_network(config: TrainConfig) -> tuple[Channels, Channels]:
    """The values with which a pretrained network was trained."""
    from ssvq.model.encoders.networks import pretrained_cfg  # timm takes seconds to import

    known = pretrained_cfg(config.architecture.encoder)
    return (known.mean, known.std) if known else (IMAGENET_MEAN, IMAGENET_STD)
