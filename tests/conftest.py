"""What tests share: one local Ray cluster, the real images, tiny images made in code."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

# Before anything imports Ray: no token file is made, and nothing is asked of a real cluster.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ.pop("RAY_ADDRESS", None)

# Machines are shared: how long one example takes says nothing.
hypothesis.settings.register_profile("ssvq", deadline=None, max_examples=50)
hypothesis.settings.load_profile("ssvq")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray cluster for all tests that need one."""
    from ssvq.ray_session import ray_session

    with ray_session(debug=False, min_cpus=6):
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; tests that use it are skipped where it is missing."""
    folder = Path(os.environ.get("SSVQ_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set SSVQ_TEST_DATA")
    return folder


def write_image(path: Path, pixels: NDArray[np.generic], **profile: object) -> Path:
    """Write pixels, (height, width) or (height, width, bands), in the format of the path's suffix."""
    drivers = {".tif": "GTiff", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
    bands = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    size = {"width": bands.shape[2], "height": bands.shape[1], "count": len(bands), "dtype": bands.dtype}
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver=drivers[path.suffix], **size, **profile) as dataset:
            dataset.write(bands)
    return path
