"""Writing surveys: images, masks and an orthomosaic."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

from ssvq.demo.synthetic.survey import SyntheticImage, paint_later, paint_orthomosaic, paint_survey

PIXEL_METRES = 0.002
NO_SIDECAR = {"GDAL_PAM_ENABLED": "NO"}


def _write(path: Path, bands: np.ndarray, **profile: Any) -> None:
    """Write `bands`, uint8 (count, height, width), without a sidecar file."""
    count, height, width = bands.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a photograph has no place on the map
        size = {"count": count, "height": height, "width": width}
        with rasterio.open(path, "w", dtype="uint8", **size, **profile) as target:
            target.write(bands)


def write_survey(
    root: Path,
    *,
    seed: int,
    photographs: int,
    height: int = 1536,
    width: int = 2048,
    orthomosaic: tuple[int, int] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """Write root/images/*.jpg with root/masks/*.png (0 or 255, same stem); return the paths of the images.

    With `orthomosaic` (height, width) also root/images/orthomosaic.tif, a tiled GeoTIFF, and its mask.
    """
    written: list[Path] = []
    for picture in paint_survey(seed, photographs, height, width):
        written.append(_save(root, picture, ".jpg", driver="JPEG", quality=90))
        if progress is not None:
            progress(1)
    if orthomosaic is not None:
        written.append(_save(
            root, paint_orthomosaic(seed, *orthomosaic), ".tif", driver="GTiff", crs=CRS.from_epsg(32633),
            tiled=True, blockxsize=512, blockysize=512, compress="JPEG", photometric="YCBCR",
            jpeg_quality=90, transform=from_origin(391_500.0, 5_819_800.0, PIXEL_METRES, PIXEL_METRES),
        ))  # fmt: skip
        if progress is not None:
            progress(1)
    return written


def write_later(root: Path, *, seed: int, photographs: int, height: int = 1536, width: int = 2048) -> dict[str, float]:
    """Write the photographs of `paint_later` as `write_survey` writes those of a survey. Returns the growth of the rust
    in each, by its name: its area over that of the year before, where both pictures show the steel; infinite where
    there was none.
    """
    grown = {}
    for picture, growth in paint_later(seed, photographs, height, width):
        _save(root, picture, ".jpg", driver="JPEG", quality=90)
        grown[picture.name] = growth
    return grown


def _save(root: Path, picture: SyntheticImage, suffix: str, **profile: Any) -> Path:
    """Write a picture and its mask; returns the path of the picture."""
    image, mask = root / "images" / f"{picture.name}{suffix}", root / "masks" / f"{picture.name}.png"
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.Env(**NO_SIDECAR):
        _write(image, np.moveaxis(picture.rgb, 2, 0), **profile)
        _write(mask, picture.rust[None].astype(np.uint8) * 255, driver="PNG", zlevel=3)
    return image
