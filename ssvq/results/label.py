"""`ssvq label`: what people say of scored tiles, as a table that `ssvq train --labels` learns from."""

import csv
import getpass
import io
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from ssvq.errors import ExitCode, InputError
from ssvq.imagery.csv_files import decode_csv, separator_of
from ssvq.imagery.tile_labels import LABELS, PLACE, read_labels
from ssvq.io import parquet, storage
from ssvq.results.settings import LabelConfig, TileLabel
from ssvq.scores.choose import choose_images, count, read_object
from ssvq.scores.data_set import Scores
from ssvq.scores.objects import put_output

NAMED_UNKNOWN = 3


class Mark(BaseModel):
    """A tile that a person marked on the report page."""

    model_config = ConfigDict(extra="forbid")

    tile_id: str
    label: TileLabel


class Marks(BaseModel):
    """What the report page downloads."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    survey: str
    model_id: str
    tiling_id: str
    labels: list[Mark]


def label(config: LabelConfig) -> ExitCode:
    """Add labels of tiles to a table, which is made where there is none; a tile that it has gets its new label.

    Raises InputError, and writes nothing, when a tile is not among the scores of the survey.
    """
    model_id, wanted = _wanted(config)
    now = datetime.now(UTC)
    who = config.who or getpass.getuser()
    rows = _rows(config, model_id, wanted, {"who": who, "when": now})
    try:
        before = read_labels(config.out, "--out").to_pylist()
    except FileNotFoundError:
        before = []
    labels = {tuple(row[name] for name in PLACE): row for row in [*before, *rows]}
    table = pa.Table.from_pylist(list(labels.values()), LABELS)
    put_output(config.out, parquet.encode(table), config.out)
    normal = sum(row["label"] == "normal" for row in rows)
    print(
        f"{config.out}: {count(len(rows), 'tile')} labelled ({normal} normal, {len(rows) - normal} anomalous), "
        f"{len(table)} in all; learn from them with `ssvq train --labels {config.out}`"
    )
    return ExitCode.DONE


def _wanted(config: LabelConfig) -> tuple[str | None, dict[str, TileLabel]]:
    """The model that the settings or the page name, if any, and the label of each tile by its tile_id."""
    if config.marks is None:
        assert config.tiles is not None
        assert config.label is not None
        return config.model_id, dict.fromkeys(_read_ids(config), config.label)
    text = _read(config.marks, "--from")
    try:
        marks = Marks.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"--from {config.marks} is no file of labels that a report page saved: {where or 'it'}: {first['msg']}"
        ) from None
    for name, given in (("survey", config.survey), ("model_id", config.model_id)):
        if given is not None and given != getattr(marks, name):
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{flag} {given}: the labels of {config.marks} are of {getattr(marks, name)}")
    return marks.model_id, {mark.tile_id: mark.label for mark in marks.labels}


def _read_ids(config: LabelConfig) -> list[str]:
    """The column `tile_id` of a CSV, or the first column of one without such a heading.

    Images of two surveys may have one name, and their tiles one identity. So a column `survey` is heeded; and without
    one, a tile that another survey has too is refused.
    """
    name = f"--tiles {config.tiles}"
    text = decode_csv(_read(str(config.tiles), "--tiles"), name)
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=separator_of(text)) if any(row)]
    heading = [cell.strip() for cell in rows[0]] if rows else []
    if "tile_id" not in heading:
        ids = [row[0].strip() for row in rows]
        _check_one_survey(config, ids, name)
        return ids
    column = heading.index("tile_id")
    rows = [row for row in rows[1:] if len(row) > column]
    ids = [row[column].strip() for row in rows]
    if "survey" not in heading:
        _check_one_survey(config, ids, name)
        return ids
    of_survey = heading.index("survey")
    others = sorted({row[of_survey].strip() for row in rows if len(row) > of_survey} - {str(config.survey)})
    if others:
        raise InputError(f"{name} has tiles of survey {others[0]}, and --survey is {config.survey}: give those of one")
    return ids


def _check_one_survey(config: LabelConfig, ids: list[str], name: str) -> None:
    """Raises InputError for a tile of an image that another survey has by the same name."""
    images = {tile_id.split("-")[0] for tile_id in ids}
    rows = Scores(config.scores).sql("SELECT DISTINCT survey, image_id FROM images").to_pylist()
    others = sorted({row["survey"] for row in rows if row["image_id"] in images} - {str(config.survey)})
    here = {row["image_id"] for row in rows if row["survey"] == config.survey}
    if others and images & here:
        raise InputError(
            f"{name} does not say which survey its tiles are of, and survey {others[0]} has images of the same names: "
            "add a column survey"
        )


def _read(address: str, setting: str) -> bytes:
    try:
        return storage.read_bytes(address)
    except FileNotFoundError:
        raise InputError(f"{setting} {address} is not there") from None
    except storage.StorageError as error:
        raise InputError(f"{setting} {address} cannot be read: {error}") from None


def _rows(
    config: LabelConfig, model_id: str | None, wanted: dict[str, TileLabel], said: dict[str, Any]
) -> list[dict[str, Any]]:
    """Rows of the schema LABELS. Each tile is looked up in the score map of its image."""
    if not wanted:
        raise InputError(f"{'--from' if config.marks else '--tiles'} {config.marks or config.tiles} names no tile")
    images = {row["image_id"]: row for row in choose_images(config.scores, None, config.survey, model_id).images}
    by_image: dict[str, set[str]] = {}
    for tile_id in wanted:
        by_image.setdefault(tile_id.split("-")[0], set()).add(tile_id)
    rows = []
    for image_id, tile_ids in by_image.items():
        if image_id not in images:
            continue
        tiles = read_object(config.scores, images[image_id], ["tile_id", "fingerprint", *PLACE]).to_pylist()
        rows += [tile | {"label": wanted[tile["tile_id"]]} | said for tile in tiles if tile["tile_id"] in tile_ids]
    unknown = sorted(wanted.keys() - {row["tile_id"] for row in rows})
    if unknown:
        named = ", ".join(unknown[:NAMED_UNKNOWN]) + (", ..." if len(unknown) > NAMED_UNKNOWN else "")
        scored = f"the tiles of survey {config.survey}"
        raise InputError(f"{count(len(unknown), 'tile')} not among {scored} in {config.scores}: {named}")
    return rows
