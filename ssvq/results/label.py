"""`ssvq label`: turns what people say about tiles and findings into labels for `ssvq train --labels` and states of
findings.
"""

import csv
import getpass
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
import shapely

from ssvq import logs
from ssvq.errors import ExitCode, InputError
from ssvq.imagery.csv_files import decode_csv, separator_of
from ssvq.imagery.tile_labels import NORMAL, LabelRow, TilePlace, from_table, read_labels, to_table
from ssvq.io import parquet
from ssvq.results.findings.decisions import Decision, put_decisions, read_decisions, version_of
from ssvq.results.findings.labels import label_tiles
from ssvq.results.findings.stored import refresh_states, told_states
from ssvq.results.findings.taking import Taken, check_decisions, contradictions
from ssvq.results.page_file import PageFile, read_page_file, read_setting
from ssvq.results.settings import LabelConfig, TileLabel
from ssvq.scores.choose import choose_images, count, read_object
from ssvq.scores.data_set import Scores
from ssvq.scores.layout import labels_file
from ssvq.scores.ledger_row import ImageRow
from ssvq.scores.objects import put_output
from ssvq.scores.schema import image_of_tile

NAMED = 5  # lines about single findings, at most; the others are counted
NAMED_UNKNOWN = 3


@dataclass
class Labels:
    """New labels, and the positions of tiles whose earlier labels they replace."""

    rows: list[LabelRow] = field(default_factory=list)
    places: set[TilePlace] = field(default_factory=set)

    def add(self, rows: Sequence[LabelRow], places: set[TilePlace]) -> None:
        """Add labels of some tiles; they replace earlier labels of these."""
        self.rows = [*(row for row in self.rows if row.place not in places), *rows]
        self.places |= places


def label(config: LabelConfig) -> ExitCode:
    """Add labels to a table, which is created if it is missing, and decisions to those beside the findings.

    A tile that has a label gets the new one. Decisions on images that have changed are named and left out, and the exit
    code says so.

    Raises InputError, and writes nothing, if a tile is not among the scores of the survey, if no decision is about the
    current scores, or if the file belongs to another survey or model.
    """
    page = None if config.marks is None else read_page_file(config.marks)
    survey, model_id = _check_source(config, page)
    try:
        choice = choose_images(config.scores, None, survey, model_id)
    except InputError as error:
        raise InputError(f"{error} (requested by --from {config.marks})" if page else str(error)) from None
    images = {image.image_id: image for image in choice.images}
    who = config.who or getpass.getuser()
    out = config.out or labels_file(config.scores, survey)
    before = _labels_before(out)
    labels = Labels()
    taken = Taken([], [])
    if page is not None and page.decisions:
        taken = check_decisions(page, str(config.marks), images, who)
    wanted = _wanted(config, page, survey)
    if not wanted and not taken.decisions:
        raise InputError(
            f"{'--from' if page else '--tiles'} {config.marks or config.tiles} names no tile and no finding"
        )
    of_tiles = _tile_rows(config.scores, images, wanted, survey, who)
    if taken.decisions:
        _take(config.scores, survey, taken.decisions, images, labels)
    labels.add(of_tiles, {row.place for row in of_tiles})
    _put_labels(out, before, labels)
    for line in [*taken.older[:NAMED], *_more(taken.older, "decision")]:
        logs.warning(f"left out: {line}")
    return ExitCode.SOME_IMAGES_FAILED if taken.older else ExitCode.DONE


def _check_source(config: LabelConfig, page: PageFile | None) -> tuple[str, str | None]:
    """The survey, and the model if one is named. Raises InputError if the page's file belongs to another one."""
    if page is None:
        return str(config.survey), config.model_id
    for name, given in (("survey", config.survey), ("model_id", config.model_id)):
        if given is not None and given != getattr(page, name):
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{flag} {given}: the labels of {config.marks} are of {getattr(page, name)}")
    return page.survey, page.model_id


def _take(scores: str, survey: str, taken: Sequence[Decision], images: Mapping[str, ImageRow], labels: Labels) -> None:
    """Write decisions, update the states of the findings, and add the labels of the tiles around them."""
    before = read_decisions(scores, survey)
    address = put_decisions(scores, survey, taken)
    people = ", ".join(sorted({one.decided_by for one in taken}))
    print(f"{address}: {count(len(taken), 'decision')} by {people}")
    told = contradictions(before, taken)
    for line in [*told[:NAMED], *_more(told, "contradiction")]:
        print(f"  {line}")
    tables = refresh_states(scores, survey)
    for partition, table in tables.items():
        print(f"survey {survey!r}, model {partition.model_id}: {told_states(Counter(table['state'].to_pylist()))}")
    decisions = read_decisions(scores, survey)
    for image_id in sorted({one.image_id for one in taken}):
        image = images[image_id]
        table = tables.get(image.partition(scores))
        undecided = None if table is None else _undecided(table, image)
        version = image_id, version_of(image.fingerprint)
        own = [one for one in decisions if (one.image_id, one.version) == version]
        near = [one.region for one in taken if one.image_id == image_id]
        tiles, fingerprint = _read_tiles(scores, image)
        labels.add(*label_tiles(list(tiles.values()), fingerprint, own, undecided, near))


def _read_tiles(scores: str, image: ImageRow) -> tuple[dict[str, TilePlace], str]:
    """The tiles of an image by their tile_id, and the fingerprint of the image that was scored."""
    table = read_object(scores, image, ["tile_id", "fingerprint", *TilePlace._fields])
    places = map(TilePlace, *(table[name].to_pylist() for name in TilePlace._fields))
    fingerprint = table["fingerprint"][0].as_py() if len(table) else image.fingerprint
    return dict(zip(table["tile_id"].to_pylist(), places, strict=True)), fingerprint


def _undecided(table: pa.Table, image: ImageRow) -> list[shapely.Geometry]:
    names = ("image_id", "fingerprint", "state", "outline")
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    own = (image.image_id, image.fingerprint, "new")
    return [shapely.from_wkb(outline) for *key, outline in rows if tuple(key) == own]


def _labels_before(address: str) -> list[LabelRow]:
    try:
        return from_table(read_labels(address, "--out"))
    except FileNotFoundError:
        return []


def _put_labels(address: str, before: Sequence[LabelRow], labels: Labels) -> None:
    kept = [row for row in before if row.place not in labels.places]
    table = to_table([*kept, *labels.rows])
    put_output(address, parquet.encode(table), address)
    normal = sum(row.label == NORMAL for row in labels.rows)
    print(
        f"{address}: {count(len(labels.rows), 'tile')} labelled ({normal} normal, {len(labels.rows) - normal} "
        f"anomalous), {len(table)} in all; learn from them with `ssvq train --labels {address}`"
    )


def _wanted(config: LabelConfig, page: PageFile | None, survey: str) -> dict[str, TileLabel]:
    """The label of each named tile, by tile_id."""
    if page is not None:
        return {mark.tile_id: mark.label for mark in page.labels}
    assert config.label is not None
    return dict.fromkeys(_read_ids(config, survey), config.label)


def _read_ids(config: LabelConfig, survey: str) -> list[str]:
    """The column `tile_id` of a CSV, or its first column if there is no such heading.

    Images of two surveys may share a name, and their tiles an id. So a column `survey` is used if there is one; without
    it, a tile that another survey has too is refused.
    """
    name = f"--tiles {config.tiles}"
    text = decode_csv(read_setting(str(config.tiles), "--tiles"), name)
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=separator_of(text)) if any(row)]
    heading = [cell.strip() for cell in rows[0]] if rows else []
    if "tile_id" not in heading:
        ids = [row[0].strip() for row in rows]
        _check_one_survey(config.scores, survey, ids, name)
        return ids
    column = heading.index("tile_id")
    rows = [row for row in rows[1:] if len(row) > column]
    ids = [row[column].strip() for row in rows]
    if "survey" not in heading:
        _check_one_survey(config.scores, survey, ids, name)
        return ids
    of_survey = heading.index("survey")
    others = sorted({row[of_survey].strip() for row in rows if len(row) > of_survey} - {survey})
    if others:
        raise InputError(f"{name} has tiles of survey {others[0]}, and --survey is {survey}: give those of one")
    return ids


def _check_one_survey(scores: str, survey: str, ids: Sequence[str], name: str) -> None:
    """Raises InputError for a tile of an image whose name occurs in another survey too."""
    images = set(map(image_of_tile, ids))
    known = Scores(scores).sql("SELECT DISTINCT survey, image_id FROM images")
    pairs = list(zip(*(known[name].to_pylist() for name in ("survey", "image_id")), strict=True))
    others = sorted({other for other, image_id in pairs if image_id in images} - {survey})
    here = {image_id for other, image_id in pairs if other == survey}
    if others and images & here:
        raise InputError(
            f"{name} does not name the survey of its tiles, and survey {others[0]} has images of the same names: "
            "add a column survey"
        )


def _tile_rows(
    scores: str,
    images: Mapping[str, ImageRow],
    wanted: Mapping[str, TileLabel],
    survey: str,
    who: str,
) -> list[LabelRow]:
    """Labels of whole tiles, each looked up in the score map of its image.

    Raises InputError if a tile is not there.
    """
    now = datetime.now(UTC)
    rows: list[LabelRow] = []
    found: set[str] = set()
    for image_id in dict.fromkeys(map(image_of_tile, wanted)):
        if image_id not in images:
            continue
        tiles, fingerprint = _read_tiles(scores, images[image_id])
        own = [tile_id for tile_id in tiles if tile_id in wanted]
        rows += [LabelRow(tiles[tile_id], fingerprint, wanted[tile_id], who, now) for tile_id in own]
        found.update(own)
    unknown = sorted(wanted.keys() - found)
    if unknown:
        named = ", ".join(unknown[:NAMED_UNKNOWN]) + (", ..." if len(unknown) > NAMED_UNKNOWN else "")
        raise InputError(f"{count(len(unknown), 'tile')} not among the tiles of survey {survey} in {scores}: {named}")
    return rows


def _more(lines: Sequence[str], noun: str) -> list[str]:
    """A line that counts the items that are not named."""
    return [f"and {count(len(lines) - NAMED, f'more {noun}')}"] if len(lines) > NAMED else []
