"""The worst tiles of a survey in one picture: photograph, contour of the heat, score and position."""

import math
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssvq.errors import ImageError, InputError
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.imagery.pixels import read_rgb
from ssvq.imagery.raster import open_raster
from ssvq.results.pictures.heat import draw_contour
from ssvq.scores.data_set import Scores
from ssvq.scores.heat_map import stitch
from ssvq.scores.objects import HeatScale, read_heat_scale, read_pixel_rule
from ssvq.scores.score_map import ScoreMap
from ssvq.scores.views import narrowed

PANEL = 2.4  # inches


@dataclass(frozen=True)
class DrawnTile:
    """A tile of the montage, and the driver of its image. `scores`: the score map of this one tile."""

    tile_id: str
    image_uri: str
    driver: str
    model_id: str
    scores: ScoreMap


def worst_tiles(scores: str, number: int, survey: str | None, model_id: str | None) -> list[DrawnTile]:
    """The tiles with the highest scores, by the model that scored last unless one is named.

    Raises InputError when there is none.
    """
    with Scores(scores) as known:
        if model_id is None:
            model_id = known.latest_model(survey)
        where = f"isfinite(score) {narrowed(survey=survey, model_id=model_id)}"
        # Select by score first: the maps of all tiles are not read.
        tiles = known.sql(f"""
            SELECT tiles.* EXCLUDE (geometry, bbox), driver
            FROM tiles JOIN images USING (survey, model_id, tiling_id, image_id)
            WHERE {where} AND tiles.tile_id IN (
                SELECT tile_id FROM tiles WHERE {where} ORDER BY score DESC, tile_id LIMIT {number}
            )
            ORDER BY score DESC, tile_id LIMIT {number}
        """)
    if not len(tiles):
        raise InputError(f"{scores} has no tile" + (f" of survey {survey!r}" if survey else "") + " to draw")
    return [
        DrawnTile(**row, scores=ScoreMap.from_table(tiles.slice(at, 1)))
        for at, row in enumerate(tiles.select(["tile_id", "image_uri", "driver", "model_id"]).to_pylist())
    ]


def draw_montage(scores: str, tiles: list[DrawnTile]) -> Figure:
    """A panel for each tile, worst first. If a source image is gone, its panel is empty and gives the reason."""
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    figure = Figure(figsize=(columns * PANEL, rows * (PANEL + 0.45)), dpi=100, layout="constrained")
    rule = read_pixel_rule(scores, tiles[0].model_id)
    scale = read_heat_scale(scores, tiles[0].model_id)
    for panel, tile in zip(figure.subplots(rows, columns, squeeze=False).flat, tiles, strict=False):
        _draw_tile(panel, tile, rule, scale)
    for panel in figure.axes:
        panel.set_axis_off()
    return figure


def _draw_tile(panel: Axes, tile: DrawnTile, rule: PixelRule, scale: HeatScale) -> None:
    scores = tile.scores
    x, y, width, height = (int(column[0]) for column in (scores.x, scores.y, scores.width, scores.height))
    name = tile.image_uri.rsplit("/", 1)[-1]
    panel.set_title(f"{scores.score[0]:.4g}\n{name} {x}, {y}", loc="left", fontsize=8, wrap=True)
    panel.set_xlim(0, width)
    panel.set_ylim(height, 0)
    panel.set_aspect("equal")
    try:
        with open_raster(tile.image_uri, [tile.driver]) as dataset:
            pixels, _ = read_rgb(dataset, x, y, width, height, (height, width), rule)
    except ImageError as error:
        panel.text(width / 2, height / 2, error.message, ha="center", va="center", fontsize=8, wrap=True)
        return
    panel.imshow(pixels, extent=(0, width, height, 0))
    if scores.cells is not None:
        alone = replace(scores, x=np.zeros(1, int), y=np.zeros(1, int))
        draw_contour(panel, stitch(alone, width, height, scale.cell), scale.at_threshold(scores))
