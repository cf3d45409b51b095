"""Selects images of an output and reads the rows of their tiles. Reads no image and no model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from ssvq.errors import InputError
from ssvq.scores.data_set import Scores
from ssvq.scores.heat_map import HeatMap, stitch
from ssvq.scores.ledger_row import ImageRow
from ssvq.scores.objects import read_heat_scale, read_score_map
from ssvq.scores.schema import LATEST_FIRST
from ssvq.scores.score_map import COLUMNS, ScoreMap
from ssvq.scores.views import KEY, narrowed


@dataclass(frozen=True)
class Choice:
    """At least one scored image, and notes on what was left out of the same surveys."""

    images: list[ImageRow]
    left_out: list[str]


def choose_images(scores: str, name: str | None, survey: str | None, model_id: str | None) -> Choice:
    """Select the image whose address is `name` or ends with it, or else all images, of a survey and a model if they are
    given.

    If there are several models or tilings, it takes the one that scored last, for each survey or for the one image.

    Raises InputError if no image is left, if a name fits several, and if the one image failed.
    """
    with Scores(scores) as known:
        if name is not None:
            return Choice([_one_image(known, name, survey, model_id)], [])
        partitions = known.latest(survey, model_id)
        rows = pa.concat_tables([known.rows(partition) for partition in partitions])
        images = ImageRow.from_table(rows)
        if not images:
            raise InputError(f"every image of {scores} that was asked for failed: no score map to export")
        failed = rows["status"].to_pylist().count("failed")
        left_out = [f"{count(failed, 'image')} failed"] if failed else []
        others = sorted({(one.model_id, one.tiling_id) for one in known.others(partitions, model_id)})
        left_out += [f"scores of model {model}, tiling {tiling}" for model, tiling in others]
        return Choice(images, left_out)


def read_tiles(scores: str, images: Sequence[ImageRow], columns: Sequence[str]) -> pa.Table:
    """Columns of the tiles of images, in the order of the images, then by row and column. `position` is the index of
    the image. Score maps are not read.

    Raises InputError if the object of an image is missing or damaged.
    """
    keys = pa.Table.from_pylist([{name: getattr(image, name) for name in KEY} for image in images])
    keys = keys.append_column("position", pa.array(range(len(images)), pa.int64()))
    selected = f"SELECT position, {', '.join(columns)}"
    joined = f"JOIN chosen USING ({', '.join(KEY)}) ORDER BY position, row, col"
    with Scores(scores) as known:
        known.connection.register("chosen", keys)
        source = "tiles"
        if len(images) == 1:  # an image has one object, so the other folders are skipped
            known.connection.register("object", read_object(scores, images[0], [*KEY, "row", "col", *columns]))
            source = "object"
        return known.sql(f"{selected} FROM {source} {joined}")


def read_object(scores: str, image: ImageRow, columns: Sequence[str]) -> pa.Table:
    """Columns of the object of an image. Raises InputError as `read_score_map`."""
    return read_score_map(image.partition(scores).score_map(image.image_id), columns)


def read_heat(scores: str, image: ImageRow) -> tuple[HeatMap, float] | None:
    """The stitched heat map of an image and its cell distance at the threshold; None for an image without scored tiles.

    Raises InputError if its object is missing or damaged.
    """
    table = read_object(scores, image, COLUMNS)
    if not len(table):
        return None
    tiles, scale = ScoreMap.from_table(table), read_heat_scale(scores, image.model_id)
    return stitch(tiles, image.image_width, image.image_height, scale.cell), scale.at_threshold(tiles)


def count(number: int, noun: str) -> str:
    """`1 tile`, `2 tiles`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def finite(value: float | None) -> float | None:
    """A number for JSON; NaN and infinity become None."""
    return value if value is not None and math.isfinite(value) else None


def _one_image(known: Scores, name: str, survey: str | None, model_id: str | None) -> ImageRow:
    known.check_known(survey, model_id)
    where = narrowed(survey=survey, model_id=model_id)
    order = f"{LATEST_FIRST}, survey, model_id, tiling_id, image_uri"
    rows = known.sql(
        f"SELECT * FROM images WHERE status IN ('scored', 'failed') AND suffix(image_uri, $1) {where} ORDER BY {order}",
        [name],
    )
    exact = rows.filter(pc.equal(rows["image_uri"], name))
    addresses = sorted(set(rows["image_uri"].to_pylist()))
    if not addresses:
        in_survey = f" in survey {survey}" if survey else ""
        raise InputError(f"no image of {known.root} ends with {name!r}{in_survey}")
    if not len(exact) and len(addresses) > 1:
        raise InputError(
            f"{len(addresses)} images of {known.root} end with {name!r} ({', '.join(addresses[:3])}, ...): "
            "give more of the address"
        )
    latest = (exact if len(exact) else rows).slice(0, 1)
    if latest["status"][0].as_py() != "scored":
        uri, reason = (latest[column][0].as_py() for column in ("image_uri", "error_message"))
        raise InputError(f"{uri} failed ({reason}): it has no score map")
    (image,) = ImageRow.from_table(latest)
    return image
