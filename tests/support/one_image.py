"""An output of one image with hot cells, anywhere on the ground, as a scoring run writes it."""

import json
import math
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.transform import Affine

from ssvq.imagery.footprint import footprints
from ssvq.imagery.grid import TileBlock, TileGrid, Tiling
from ssvq.imagery.raster import ImageHeader
from ssvq.io import parquet, storage
from ssvq.scores.layout import Partition, model_file
from ssvq.scores.ledger import LedgerWriter
from ssvq.scores.schema import LEDGER, SCORE_MAP
from tests.support.rows import row_of, to_table

TILING = Tiling(tile_size=32, stride=32)


CELLS = 8  # on a side of a tile


WIDTH, HEIGHT = 148, 88  # whole cells, but not whole tiles


THRESHOLD = 8.0  # of a tile: 1 for a cell


MODEL = "0123456789abcdef"


UTM = ("EPSG:32633", Affine(0.02, 0, 500_000, 0, -0.02, 4_000_000))


ROTATED = ("EPSG:32633", Affine.translation(5e5, 4e6) * Affine.rotation(33) * Affine.scale(0.02, -0.02))


SOUTH_UP = ("EPSG:32633", Affine(0.02, 0, 500_000, 0, 0.02, 4_000_000))


ANTIMERIDIAN = ("EPSG:4326", Affine(1e-4, 0, 179.9925, 0, -1e-4, -16.5))  # 75 pixels on either side


ANTIMERIDIAN_UTM = ("EPSG:32701", Affine(10, 0, 179_000 - 20_000, 0, -10, 8_150_000))


POLAR = ("EPSG:3413", Affine(100, 0, 5e5, 0, -100, 5e5))


PLACES = {
    "utm": UTM,
    "rotated": ROTATED,
    "south up": SOUTH_UP,
    "antimeridian": ANTIMERIDIAN,
    "antimeridian in utm": ANTIMERIDIAN_UTM,
    "polar": POLAR,
}


NOWHERE = (None, None)


def header_of(place: tuple[str | None, Affine | None], **changes: Any) -> ImageHeader:
    """Header of an image at a place."""
    crs, affine = place
    fields = {"bands": 3, "dtype": "uint8", "driver": "GTiff", "random_access": True, "file_block": (256, 256)}
    fields |= {"orientation": None, "captured_at": None, "latitude": None, "longitude": None}
    transform = None if affine is None else tuple(affine)[:6]
    return ImageHeader(width=WIDTH, height=HEIGHT, crs=crs, transform=transform, **fields | changes)


def write_scores(
    out: Path,
    header: ImageHeader,
    hot: NDArray[np.bool_] | None = None,
    *,
    name: str = "a.tif",
    cells: bool = True,
    model: str = MODEL,
    survey: str = "s",
    status: str = "scored",
    hour: int = 12,
) -> Path:
    """Score map and ledger of one image: distance 4 in the cells of `hot` (rows, cols) of the image, else 0.5."""
    image_id = name.split(".")[0]
    storage.put_text(model_file(str(out), model), json.dumps({"preprocessing": {"cell": 4}}))
    partition = Partition(str(out), survey, model, TILING.tiling_id)
    identity = {"survey": survey, "model_id": model, "tiling_id": TILING.tiling_id, "image_id": image_id}
    identity |= {"image_uri": f"/survey/{name}", "fingerprint": "1-2", "run_id": f"run-{hour}"}
    grid = TileGrid(WIDTH, HEIGHT, TILING)
    tiles = list(grid.tiles(TileBlock(0, len(grid.ys), 0, len(grid.xs))))
    rows = []
    windows = np.array([(tile.x, tile.y, tile.width, tile.height) for tile in tiles])
    for tile, outline in zip(tiles, footprints(header, windows), strict=True):
        centres = np.arange(CELLS) * 4 + 2
        under = np.ix_((tile.y + centres) // 4, (tile.x + centres) // 4)
        values = np.full((CELLS, CELLS), 0.5) if hot is None else np.where(hot[under], 4.0, 0.5)
        score = float(np.sqrt((values**2).sum()))
        rows.append(
            {**identity, **asdict(tile), "tile_id": f"{image_id}-{tile.row}-{tile.col}", "valid_fraction": 1.0}
            | {
                "score": score,
                "p_value": 0.25,
                "threshold": THRESHOLD,
                "scored_at": datetime(2026, 1, 1, hour, tzinfo=UTC),
                "is_anomalous": score >= THRESHOLD,
            }
            | {"score_map": values.tolist() if cells else None, "score_max": float(values.max()) if cells else score}
            | {"geometry": None if outline is None else shapely.to_wkb(outline)}
        )
    rows = rows if status == "scored" else []
    storage.put(partition.score_map(image_id), parquet.encode(to_table(rows, SCORE_MAP)))
    found = {name: value for name, value in asdict(header).items() if name in LEDGER.names}
    with LedgerWriter(str(out), f"run-{survey}-{model}-{image_id}") as ledger:
        ledger.add(
            row_of(
                {**identity, **found, "image_width": WIDTH, "image_height": HEIGHT, "status": status}
                | {
                    "run_number": 1,
                    "recorded_at": datetime(2026, 1, 1, hour, tzinfo=UTC),
                    "error_message": "is empty" if not rows else None,
                }
                | {"tiles": len(rows), "skipped_tiles": 0, "anomalous_tiles": sum(row["is_anomalous"] for row in rows)}
            )
        )
    return out


def hot_cells(*blocks: tuple[slice, slice]) -> NDArray[np.bool_]:
    """Which cells of the image are hot: those of some rows and columns."""
    hot = np.zeros((math.ceil(HEIGHT / 4), math.ceil(WIDTH / 4)), bool)
    for rows, cols in blocks:
        hot[rows, cols] = True
    return hot
