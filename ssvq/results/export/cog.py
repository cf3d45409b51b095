"""The stitched heat map of an image as a Cloud-Optimised GeoTIFF."""

import warnings

from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from ssvq.errors import ImageError
from ssvq.imagery.raster import open_raster
from ssvq.results.ground import affine_of, is_placed
from ssvq.scores.heat_map import HeatMap
from ssvq.scores.ledger_row import ImageRow

GDAL_OPTIONS = {
    "compress": "DEFLATE",
    "predictor": "FLOATING_POINT",
    "blocksize": 256,  # few maps are larger than some of these blocks
    "overview_resampling": "RMS",  # the maximum, as in pooling of cells: a block at the threshold stays at it
}


IDENTITY = ("image_uri", "survey", "model_id", "tiling_id")  # tags of a map: its source and scores


def encode_cog(heat: HeatMap, image: ImageRow, threshold: float) -> bytes:
    """Encode a heat map as a GeoTIFF of one float32 band, NaN where nothing was scored, in the image's CRS.

    Without a CRS it is a plain TIFF whose coordinates are those of its cells. Tags hold `threshold`, the cell distance
    at the threshold. A pixel of the map is a cell, and its transform is the image's times the pitch of the cells. Both
    start at the same corner; the last row and column may reach over the image's edge by part of a cell.
    """
    rows, cols = heat.values.shape
    profile = {"driver": "COG", "width": cols, "height": rows, "count": 1, "dtype": "float32", "nodata": float("nan")}
    if is_placed(image):
        profile |= {"crs": image.crs, "transform": affine_of(image, heat.pitch_x, heat.pitch_y)}
    tags = {name: getattr(image, name) for name in IDENTITY}
    tags |= {"threshold": repr(threshold), "cell_pixels": f"{heat.pitch_x:g} {heat.pitch_y:g}"}
    with warnings.catch_warnings(), MemoryFile() as file:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with file.open(**profile, **GDAL_OPTIONS) as dataset:
            dataset.write(heat.values, 1)
            dataset.set_band_description(1, "distance to the nearest code")
            dataset.update_tags(**tags)
        return bytes(file.read())


def is_heat_map(location: str, image: ImageRow) -> bool:
    """Whether a file is a heat map of these scores of an image, by the tags of `encode_cog`."""
    try:
        with open_raster(location) as dataset:
            tags = dataset.tags()
    except ImageError:  # another file of that name
        return False
    return all(tags.get(name) == getattr(image, name) for name in IDENTITY)
