"""`ssvq overlay`: a picture of an image with the heat of its score map over it."""

import math

import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ssvq.errors import ExitCode, ImageError, InputError, reason_of
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.imagery.pixels import read_rgb
from ssvq.imagery.raster import open_raster
from ssvq.results.pictures.heat import FULL_SCALE, draw_heat, metres_in_pixel, scale_bar
from ssvq.results.pictures.montage import draw_montage, worst_tiles
from ssvq.results.pictures.settings import OverlayConfig
from ssvq.scores.choose import choose_images
from ssvq.scores.data_set import Scores
from ssvq.scores.heat_map import stitch
from ssvq.scores.ledger_row import ImageRow
from ssvq.scores.objects import HeatScale, read_heat_scale, read_pixel_rule
from ssvq.scores.score_map import ScoreMap
from ssvq.scores.views import KEY, literal

LONGEST_SIDE = 1600  # pixels of the photograph in the picture
NARROWEST_PANEL = 3.6  # inches, so that titles have room over a small image
DOTS_PER_INCH = 100
WORST_FRAMED = 3  # tiles with a thick frame


def overlay(config: OverlayConfig) -> ExitCode:
    """Write the picture. Raises InputError if the image has no score map, or can no longer be read."""
    if config.worst is not None:
        tiles = worst_tiles(config.scores, config.worst, config.survey, config.model_id)
        figure = draw_montage(config.scores, tiles)
        drawn = f"the worst {len(tiles)} tiles"
    else:
        image, tiles = find_image(config.scores, config.image, config.model_id)
        rule = read_pixel_rule(config.scores, image.model_id)
        figure = draw_overlay(image, tiles, rule, read_heat_scale(config.scores, image.model_id))
        drawn = f"{len(tiles)} tiles of {image.image_uri}"
    try:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(config.out, format="png")
    except OSError as error:
        raise InputError(f"--out {config.out} cannot be written: {reason_of(error)}") from None
    print(f"{config.out}: {drawn}")
    return ExitCode.DONE


def find_image(scores: str, name: str, model_id: str | None) -> tuple[ImageRow, pa.Table]:
    """The image whose address is `name` or ends with it, and the rows of its tiles, by the model that scored last.

    Raises InputError unless the name matches exactly one scored image.
    """
    (image,) = choose_images(scores, name, None, model_id).images
    key = " AND ".join(f"{column} = {literal(getattr(image, column))}" for column in KEY)
    tiles = Scores(scores).sql(f"SELECT * EXCLUDE (geometry, bbox) FROM tiles WHERE {key}")
    if not len(tiles):
        raise InputError(f"{image.image_uri} has no tile with valid pixels")
    return image, tiles


def draw_overlay(image: ImageRow, tiles: pa.Table, rule: PixelRule, scale: HeatScale) -> Figure:
    """The photograph, and beside it the photograph with heat, the contour of the threshold, and frames around anomalous
    tiles, thick around the worst.

    It is drawn as the model sees it, with the driver that read it for scoring. Raises InputError if the image can no
    longer be read.
    """
    width, height = image.image_width, image.image_height
    shrink = max(1, math.ceil(max(width, height) / LONGEST_SIDE))
    try:
        with open_raster(image.image_uri, [image.driver]) as dataset:
            pixels, _ = read_rgb(dataset, 0, 0, width, height, (-(-height // shrink), -(-width // shrink)), rule)
            metres = metres_in_pixel(dataset)
    except ImageError as error:
        raise InputError(f"{image.image_uri} {error.message}") from None
    score_map = ScoreMap.from_table(tiles)
    heat = stitch(score_map, width, height, scale.cell)

    room_for_titles = min(NARROWEST_PANEL, LONGEST_SIDE / DOTS_PER_INCH * width / height)
    panel_width = max(width / shrink / DOTS_PER_INCH / 1.6, room_for_titles)
    panel_height = panel_width * height / width
    figure = Figure(figsize=(2 * panel_width + 0.9, panel_height + 0.7), dpi=DOTS_PER_INCH, layout="constrained")
    plain, heated = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes in (plain, heated):
        axes.imshow(pixels, extent=(0, width, height, 0))
        axes.set_axis_off()
    column, limit = scale.decided_by(score_map)
    worst = pc.max(tiles[column]).as_py()
    anomalous = tiles.filter(tiles["is_anomalous"]).sort_by(column)
    plain.set_title(image.image_uri.rsplit("/", 1)[-1], loc="left")
    heated.set_title(f"{len(anomalous)} of {len(tiles)} tiles at or over {limit:.4g}; worst {worst:.4g}", loc="left")
    threshold = scale.at_threshold(score_map)
    shown = draw_heat(heated, heat, threshold)
    plain.add_artist(scale_bar(metres))
    heated.set_xlim(0, width)
    heated.set_ylim(height, 0)
    bar = figure.colorbar(shown, ax=heated, label="distance to the nearest code", shrink=0.85, pad=0.01)
    bar.ax.axhline(threshold, color="white", linewidth=2)
    bar.set_ticks([0, threshold, FULL_SCALE * threshold], labels=["0", "threshold", f"{FULL_SCALE:g} x"])
    windows = zip(*(anomalous[name].to_pylist() for name in ("x", "y", "width", "height")), strict=True)
    for place, (x, y, tile_width, tile_height) in enumerate(windows, start=1 - len(anomalous)):
        thick = place > -WORST_FRAMED
        frame = Rectangle((x, y), tile_width, tile_height, fill=False, edgecolor="white")
        frame.set(linewidth=2.4 if thick else 0.8, zorder=4 if thick else 3)
        heated.add_patch(frame)
    return figure
