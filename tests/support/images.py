"""Images made in code, and where the repository is."""

import warnings
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

REPOSITORY = Path(__file__).resolve().parents[2]


def write_image(path: Path, pixels: NDArray[np.generic], **profile: object) -> Path:
    """Write pixels, (height, width) or (height, width, bands), in the format of the path's suffix."""
    drivers = {".tif": "GTiff", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
    bands = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    size = {"width": bands.shape[2], "height": bands.shape[1], "count": len(bands), "dtype": bands.dtype}
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver=drivers[path.suffix], **size, **profile) as dataset:
            dataset.write(bands)
    return path
