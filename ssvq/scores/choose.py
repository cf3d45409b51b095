"""Selects images of an output and reads the rows of their tiles. Reads no image and no model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ssvq.errors import InputError
from ssvq.scores.data_set import Scores
from ssvq.scores.heat_map import HeatMap, stitch
from ssvq.scores.layout import Partition
from ssvq.scores.objects import HeatScale, read_heat_scale, read_score_map
from ssvq.scores.schema import LATEST_FIRST
from ssvq.scores.views import KEY, narrowed

HEAT_COLUMNS = ("tiling_id", "x", "y", "width", "height", "score", "threshold", "score_map")
"""Columns of tiles from which a heat map is stitched."""


@dataclass(frozen=True)
class Choice:
    """At least one ledger row, all `scored`, and notes on what was left out of the same surveys."""

    images: list[dict[str, Any]]
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
        rows = [row for partition in partitions for row in known.rows(partition).to_pylist()]
        images = [row for row in rows if row["status"] == "scored"]
        if not images:
            raise InputError(f"every image of {scores} that was asked for failed: no score map to export")
        failed = sum(row["status"] == "failed" for row in rows)
        left_out = [f"{count(failed, 'image')} failed"] if failed else []
        others = sorted({(one.model_id, one.tiling_id) for one in known.others(partitions, model_id)})
        left_out += [f"scores of model {model}, tiling {tiling}" for model, tiling in others]
        return Choice(images, left_out)


def read_tiles(scores: str, images: Sequence[dict[str, Any]], columns: Sequence[str]) -> pa.Table:
    """Columns of the tiles of images, in the order of the images, then by row and column. `position` is the index of
    the image. Score maps are not read.

    Raises InputError if the object of an image is missing or damaged.
    """
    keys = pa.Table.from_pylist([{name: image[name] for name in KEY} for image in images])
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


def read_object(scores: str, image: dict[str, Any], columns: Sequence[str]) -> pa.Table:
    """Columns of the object of an image. Raises InputError as `read_score_map`."""
    partition = Partition(scores, image["survey"], image["model_id"], image["tiling_id"])
    return read_score_map(partition.score_map(image["image_id"]), columns)


def read_heat(scores: str, image: dict[str, Any]) -> tuple[HeatMap, float] | None:
    """The stitched heat map of an image and its cell distance at the threshold; None for an image without scored tiles.

    Raises InputError if its object is missing or damaged.
    """
    table = read_object(scores, image, HEAT_COLUMNS)
    if not len(table):
        return None
    scale = read_heat_scale(scores, image["model_id"])
    return heat_of(table, image, scale), scale.at_threshold(first_tile(table))


def first_tile(table: pa.Table) -> dict[str, Any]:
    """The columns of an image's first tile that a HeatScale needs."""
    return {name: table[name][0].as_py() for name in ("tiling_id", "threshold", "score_map")}


def heat_of(table: pa.Table, image: dict[str, Any], scale: HeatScale) -> HeatMap:
    """The stitched heat map of an image, from the rows of its tiles, of which there is at least one."""
    rows = table.drop_columns("score_map").to_pylist()
    maps = table["score_map"].combine_chunks()
    if maps.null_count:
        values = [None] * len(rows)
    else:  # all maps of a tiling have one size: one array instead of millions of Python numbers
        values = maps.flatten().flatten().to_numpy(zero_copy_only=False).reshape(len(rows), len(maps[0]), -1)
    rows = [{**row, "score_map": cells} for row, cells in zip(rows, values, strict=True)]
    return stitch(rows, image["image_width"], image["image_height"], scale.cell)


def count(number: int, noun: str) -> str:
    """`1 tile`, `2 tiles`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def finite(value: float | None) -> float | None:
    """A number for JSON; NaN and infinity become None."""
    return value if value is not None and math.isfinite(value) else None


def _one_image(known: Scores, name: str, survey: str | None, model_id: str | None) -> dict[str, Any]:
    known.check_known(survey, model_id)
    where = narrowed(survey=survey, model_id=model_id)
    order = f"{LATEST_FIRST}, survey, model_id, tiling_id, image_uri"
    rows = known.sql(
        f"SELECT * FROM images WHERE status IN ('scored', 'failed') AND suffix(image_uri, $1) {where} ORDER BY {order}",
        [name],
    ).to_pylist()
    exact = [row for row in rows if row["image_uri"] == name]
    addresses = sorted({row["image_uri"] for row in rows})
    if not rows:
        in_survey = f" in survey {survey}" if survey else ""
        raise InputError(f"no image of {known.root} ends with {name!r}{in_survey}")
    if not exact and len(addresses) > 1:
        raise InputError(
            f"{len(addresses)} images of {known.root} end with {name!r} ({', '.join(addresses[:3])}, ...): "
            "give more of the address"
        )
    image: dict[str, Any] = (exact or rows)[0]
    if image["status"] != "scored":
        raise InputError(f"{image['image_uri']} failed ({image['error_message']}): it has no score map")
    return image
