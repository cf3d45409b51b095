"""What a row of a score map holds is fixed: names, types, order and values, column by column.

The digests are of Parquet that ssvq 0.1.0 wrote of this survey. The model's weights are few and its arithmetic exact in
fp32, so that every machine has the same scores, but for the last bit of their roots, which not every CPU rounds alike.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rasterio.control import GroundControlPoint
from rasterio.transform import from_origin

from ssvq.config import Architecture, ReadLimits, ScoreConfig
from ssvq.errors import ExitCode
from ssvq.methods.build import build_method
from ssvq.model import bundle as bundles
from ssvq.model.description import Bundle, Preprocessing
from ssvq.scoring.job import score
from tests.support.images import write_image
from tests.support.surveys import TILE, make_bundle

pytestmark = pytest.mark.usefixtures("ray_cluster")

FEW = Architecture(hidden=2, residual_hidden=1, residual_layers=0, codes=4, dimensions=1)
PER_RUN = ("run_id", "scored_at")


def exact_bundle(folder: Path) -> Bundle:
    """A model whose latents are multiples of 1/512 and whose codes are quarters."""
    made = make_bundle(folder, architecture=FEW, threshold=1.85)
    method = build_method(made.method, made.settings)
    weights = {name: torch.zeros_like(value) for name, value in method.state_dict().items()}
    weights["encoder.whitening.matrix"] = torch.eye(3)
    weights["encoder.features.0.weight"][0, 0, 1, 1] = 1
    weights["encoder.features.0.weight"][0, 1, 2, 1] = 0.5
    weights["encoder.features.2.weight"][:, 0, 1, 2] = 1
    weights["encoder.features.4.weight"][0, 0, 1, 1] = 1
    weights["encoder.to_latent.weight"][0, 0] = 1
    weights["codebook.codes"] = torch.tensor([[0.0], [0.25], [0.5], [0.75]])
    data = bundles.encode_weights(weights)
    preprocessing = Preprocessing(tile_size=TILE, mean=(0, 0, 0), std=(256 / 255,) * 3)
    bundle = made.model_copy(
        update={"preprocessing": preprocessing, "weights_sha256": bundles.sha256(data), "model_id": "0" * 16}
    )
    bundles.save_bundle(str(folder), bundle, data)
    return bundle


def mixed_survey(folder: Path) -> Path:
    """Images of every way that a tile can take: padded, shifted, in several parts, with holes, placed, damaged."""
    rng = np.random.default_rng(7)

    def grey(height: int, width: int, bands: int = 3) -> np.ndarray:
        return rng.integers(1, 256, (height, width, bands), np.uint8)

    write_image(folder / "exact.png", grey(TILE, 2 * TILE))
    write_image(folder / "shifted.png", grey(70, 90))
    write_image(folder / "small.png", grey(20, 25))
    write_image(folder / "tiny.png", grey(3, 5))
    write_image(folder / "b" / "many parts.tif", grey(500, 700), tiled=True, blockxsize=64, blockysize=64)
    holes = grey(96, 128, 4)
    holes[..., 3] = 255
    holes[10:20, 40:50, 3] = 0
    holes[32:64, :32, 3] = 0
    write_image(folder / "holes.png", holes)
    write_image(folder / "nothing.png", np.dstack([grey(40, 40), np.zeros((40, 40, 1), np.uint8)]))
    write_image(folder / "placed.tif", grey(64, 96), crs="OGC:CRS84", transform=from_origin(9.25, 53.5, 2**-12, 2**-12))
    nodata = grey(64, 80)
    nodata[:33, :40] = 0
    placed = {"crs": "OGC:CRS84", "transform": from_origin(179.99, 1, 0.5**9, 0.5**9)}
    write_image(folder / "date line.tif", nodata, nodata=0, **placed)
    corners = ((0, 0), (0, 64), (64, 0), (64, 64))
    points = [GroundControlPoint(row, col, 8 + col / 1024, 50 - row / 1024) for row, col in corners]
    write_image(folder / "points.tif", grey(64, 64), gcps=points, crs="OGC:CRS84")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    for path in folder.rglob("*.*"):
        os.utime(path, ns=(10**18, 10**18))
    return folder


def digest(column: pa.ChunkedArray, *, is_root: bool) -> str:
    values = column.to_pylist()
    if is_root:
        values = [None if value is None else f"{value:.5g}" for value in values]
    return hashlib.sha256(repr(values).encode()).hexdigest()[:16]


def test_every_column_is_what_it_was(tmp_path: Path) -> None:
    exact_bundle(tmp_path / "model")
    survey = mixed_survey(tmp_path / "survey")
    job: dict[str, Any] = {"survey": str(survey), "model": str(tmp_path / "model"), "out": str(tmp_path / "scores")}
    in_parts = ReadLimits(part_pixels=50 * TILE**2)
    assert score(ScoreConfig(**job, device="cpu", precision="fp32", read=in_parts)) == ExitCode.SOME_IMAGES_FAILED
    files = sorted(Path(job["out"], "tiles").rglob("*.parquet"))
    table = pa.concat_tables([pq.ParquetFile(path).read() for path in files])
    assert table.schema.metadata == pq.read_schema(files[0]).metadata
    uris = [uri.removeprefix(f"{tmp_path}/") for uri in table["image_uri"].to_pylist()]
    table = table.set_column(table.schema.get_field_index("image_uri"), "image_uri", pa.array(uris))
    assert table.column_names[-3:] == ["score_worst", "p_value_worst", "threshold_worst"]  # of 0.2.0
    names = [name for name in table.column_names[:-3] if name not in PER_RUN]
    found = {name: digest(table[name], is_root=name in ("score", "score_max")) for name in names}
    stored = pq.read_schema(files[0])
    schema = pa.schema([stored.field(name) for name in table.column_names[:-3]], stored.metadata)
    found["schema"] = hashlib.sha256(schema.to_string().encode()).hexdigest()[:16]
    assert (len(files), len(table)) == (11, 390)
    assert found == EXPECTED


EXPECTED = {
    "survey": "10d99bc12fdf3701",
    "image_uri": "4344d94e6e9f07eb",
    "image_id": "8245ab71289d63ed",
    "fingerprint": "bbc93ff054f701ab",
    "model_id": "a7a5f26ed86c9da9",
    "tiling_id": "c83e899574e11148",
    "tile_id": "e421fbde419cd97b",
    "row": "67bb2a0677a4a044",
    "col": "73fc9dc9ac26f955",
    "x": "e98617e5b167223d",
    "y": "2420c2b23e7c0b5b",
    "width": "9100cd4138d8fc7f",
    "height": "522fce899fbb5d03",
    "valid_fraction": "309703e95152edb8",
    "score": "8c9975f1120acae6",
    "score_max": "e9ff64f7b0a5ee10",
    "p_value": "d2b58b45c429c638",
    "threshold": "b1c639cfd8f5c5c4",
    "is_anomalous": "d6cf77adf7b188fb",
    "precision": "a746b80288d76f6c",
    "score_map": "2942b2d6971d4c1c",
    "geometry": "6988dca56f73ad9f",
    "bbox": "7cfb2171311693ca",
    "schema": "00ae0d59574f628c",
}
