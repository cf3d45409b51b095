"""The plain CSV: a row for each tile, with the position of its centre if it is known."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from ssvq.results.ground import DECIMALS, is_placed, to_lonlat
from ssvq.scores.choose import read_tiles
from ssvq.scores.ledger_row import ImageRow

COLUMNS = ("tile_id", "x", "y", "width", "height", "valid_fraction", "score", "p_value", "is_anomalous")


def tiles_table(scores: str, images: list[ImageRow]) -> pa.Table:
    """Rows of tiles: image, the columns of COLUMNS, longitude and latitude of the centre (null if unknown)."""
    table = read_tiles(scores, images, ["image_uri", *COLUMNS])
    position = table["position"].to_numpy()
    x, y, width, height = (table[name].to_numpy() for name in ("x", "y", "width", "height"))
    centres = _centres(images, position, x + width / 2, y + height / 2)
    table = table.drop_columns("position").rename_columns({"image_uri": "image"})
    for i, name in enumerate(("longitude", "latitude")):
        table = table.append_column(name, pa.array(centres[:, i], mask=np.isnan(centres[:, i])))
    return table


def encode_csv(table: pa.Table) -> bytes:
    """A table as CSV with a header; null is empty."""
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(table, buffer, pyarrow.csv.WriteOptions(quoting_style="needed"))
    return buffer.getvalue()


def _centres(
    images: list[ImageRow], position: NDArray[np.int64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Longitude and latitude (n, 2) of pixels of images; `position` is the index of the image. NaN if unknown."""
    affines = np.full((len(images), 6), np.nan)
    for i, image in enumerate(images):
        if is_placed(image):
            affines[i] = image.transform
    a, b, c, d, e, f = affines[position].T
    easting, northing = a * x + b * y + c, d * x + e * y + f
    lonlat = np.full((len(x), 2), np.nan)
    by_crs: dict[str, list[int]] = {}
    for i, image in enumerate(images):
        if is_placed(image):
            by_crs.setdefault(image.crs or "", []).append(i)
    for crs, members in by_crs.items():
        rows = np.flatnonzero(np.isin(position, members))
        points = to_lonlat(crs, easting[rows], northing[rows])
        if points is not None:
            lonlat[rows] = points
            continue
        for member in members:  # an image off the map must not cost the others their position
            rows = np.flatnonzero(position == member)
            points = to_lonlat(crs, easting[rows], northing[rows])
            if points is not None:
                lonlat[rows] = points
    return lonlat.round(DECIMALS)
