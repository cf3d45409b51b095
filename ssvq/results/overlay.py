"""`ssvq overlay`: a picture of an image with the heat of its score map over it."""

import json
import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from ssvq import storage
from ssvq.config import OverlayConfig
from ssvq.errors import ExitCode, ImageError, InputError
from ssvq.imagery.grid import CELL
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.imagery.pixels import read_rgb
from ssvq.imagery.raster import open_raster
from ssvq.results.query import literal, run_sql
from ssvq.results.stitch import HeatMap, stitch
from ssvq.scoring.layout import model_file

LONGEST_SIDE = 1600  # pixels of the photograph in the picture
NARROWEST_PANEL = 3.6  # inches, so that titles have room over a small image
DOTS_PER_INCH = 100
COLOURS = "inferno"  # dark to bright also in grey and without colour vision
FULL_SCALE = 2.0  # brightest colour, as a multiple of the distance at the threshold


def overlay(config: OverlayConfig) -> ExitCode:
    """Write the picture. Raises InputError when the image has no score map, or cannot be read any more."""
    image, tiles = find_image(config.scores, config.image, config.model_id)
    figure = draw_overlay(image, tiles, read_pixel_rule(config.scores, image["model_id"]))
    try:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(config.out, format="png")
    except OSError as error:
        raise InputError(f"--out {config.out} cannot be written: {error.strerror}") from None
    print(f"{config.out}: {len(tiles)} tiles of {image['image_uri']}")
    return ExitCode.DONE


def find_image(scores: str, name: str, model_id: str | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The ledger's row of the image whose address ends with `name`, and the rows of its tiles.

    With several models the latest is taken. Raises InputError unless the name fits one scored image.
    """
    where = f"suffix(image_uri, {literal(name)})"
    if model_id is not None:
        where += f" AND model_id = {literal(model_id)}"
    found = run_sql(scores, f"SELECT * FROM images WHERE {where} ORDER BY recorded_at DESC").to_pylist()
    addresses = sorted({row["image_uri"] for row in found})
    if not found:
        raise InputError(f"no image of {scores} ends with {name!r}" + (f" for model {model_id}" if model_id else ""))
    exact = [row for row in found if row["image_uri"] == name]
    if not exact and len(addresses) > 1:
        some = ", ".join(addresses[:3])
        raise InputError(
            f"{len(addresses)} images of {scores} end with {name!r} ({some}, ...): give more of the address"
        )
    image = (exact or found)[0]
    if image["status"] != "scored":
        raise InputError(f"{image['image_uri']} failed ({image['error_message']}): it has no score map")
    key = " AND ".join(
        f"{column} = {literal(image[column])}" for column in ("survey", "model_id", "tiling_id", "image_id")
    )
    tiles = run_sql(scores, f"SELECT * EXCLUDE (geometry, bbox) FROM tiles WHERE {key}").to_pylist()
    if not tiles:
        raise InputError(f"{image['image_uri']} has no tile with valid pixels")
    return image, tiles


def read_pixel_rule(scores: str, model_id: str) -> PixelRule:
    """The rule by which a model sees pixels, from the copy of its description beside its score maps.

    Raises InputError when that is missing.
    """
    address = model_file(scores, model_id)
    try:
        description = json.loads(storage.read_text(address))
    except FileNotFoundError:
        raise InputError(f"{address} is missing: copy the score maps whole") from None
    return PixelRule.model_validate(description["preprocessing"].get("pixels", {}))


def draw_overlay(image: dict[str, Any], tiles: list[dict[str, Any]], rule: PixelRule) -> Figure:
    """The photograph, and beside it the photograph with heat over it and the anomalous tiles framed. It is drawn as
    the model sees it, opened by the driver that it was scored with.

    Raises InputError when the image cannot be read any more.
    """
    width, height = image["image_width"], image["image_height"]
    shrink = max(1, math.ceil(max(width, height) / LONGEST_SIDE))
    try:
        with open_raster(image["image_uri"], [image["driver"]]) as dataset:
            pixels, _ = read_rgb(dataset, 0, 0, width, height, (-(-height // shrink), -(-width // shrink)), rule)
    except ImageError as error:
        raise InputError(f"{image['image_uri']} {error.message}") from None
    heat = stitch(tiles, width, height)

    room_for_titles = min(NARROWEST_PANEL, LONGEST_SIDE / DOTS_PER_INCH * width / height)
    panel_width = max(width / shrink / DOTS_PER_INCH / 1.6, room_for_titles)
    panel_height = panel_width * height / width
    figure = Figure(figsize=(2 * panel_width + 0.9, panel_height + 0.7), dpi=DOTS_PER_INCH, layout="constrained")
    plain, heated = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes in (plain, heated):
        axes.imshow(pixels, extent=(0, width, height, 0))
        axes.set_axis_off()
    worst = max(tile["score"] for tile in tiles)
    anomalous = [tile for tile in tiles if tile["is_anomalous"]]
    plain.set_title(image["image_uri"].rsplit("/", 1)[-1], loc="left")
    heated.set_title(
        f"{len(anomalous)} of {len(tiles)} tiles at or over {tiles[0]['threshold']:.4g}; worst {worst:.4g}", loc="left"
    )
    threshold = _distance_at_threshold(tiles[0])
    shown = _draw_heat(heated, heat, threshold)
    heated.set_xlim(0, width)
    heated.set_ylim(height, 0)
    bar = figure.colorbar(shown, ax=heated, label="distance to the nearest code", shrink=0.85, pad=0.01)
    bar.ax.axhline(threshold, color="white", linewidth=2)
    bar.set_ticks([0, threshold, FULL_SCALE * threshold], labels=["0", "threshold", f"{FULL_SCALE:g} x"])
    for tile in anomalous:
        corner = (tile["x"], tile["y"])
        heated.add_patch(Rectangle(corner, tile["width"], tile["height"], fill=False, edgecolor="white", linewidth=0.9))
    return figure


def _distance_at_threshold(tile: dict[str, Any]) -> float:
    """The cell distance that, all over a tile, gives it the threshold's score."""
    side = int(tile["tiling_id"].split("-")[0]) / CELL if tile["score_map"] is not None else 1
    return float(tile["threshold"] / side)


def _draw_heat(axes: Axes, heat: HeatMap, threshold: float) -> AxesImage:
    """Heat over the pixels on the model's scale, not the image's: clear below half the threshold's distance and
    strongest from twice, so that a clean image looks clean.
    """
    opacity = 0.75 * np.clip((np.nan_to_num(heat.values) / threshold - 0.5) / 1.5, 0, 1)
    return axes.imshow(
        heat.values,
        cmap=COLOURS,
        vmin=0,
        vmax=FULL_SCALE * threshold,
        alpha=opacity,
        extent=heat.extent,
    )
