"""The page of `ssvq check`: one HTML file without script, which loads nothing from a network."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import shapely
from markupsafe import Markup

import ssvq
from ssvq.check.findings import ClassRow, Concern, KindRow, class_of
from ssvq.check.look import Look
from ssvq.imagery.footprint import footprints
from ssvq.imagery.raster import ImageHeader
from ssvq.results.html import page_template, read_part
from ssvq.results.report.ground_map import MapImage, draw_map

NAMES_SHOWN = 50  # images named for a warning
REFUSED_SHOWN = 1000
KINDS_SHOWN = 12
SPLITS = ("train", "validation", "calibration", "test", "")


def render(
    source: str,
    looks: Sequence[Look],
    concerns: Sequence[Concern],
    classes: Sequence[ClassRow],
    kinds: Sequence[KindRow],
) -> bytes:
    """The page as UTF-8."""
    filters = {"number": "{:,}".format, "percent": _percent}
    refused = [look for look in looks if look.error is not None]
    placed = [(look, look.header) for look in looks if look.header is not None]
    page = page_template("ssvq.check/page.html", filters).render(
        source=source,
        css=Markup(read_part("ssvq.results.report/page.css") + read_part("ssvq.check/page.css")),
        images=len(looks),
        refused=refused[:REFUSED_SHOWN],
        refused_more=max(0, len(refused) - REFUSED_SHOWN),
        refused_count=len(refused),
        concerns=concerns,
        names_shown=NAMES_SHOWN,
        classes=classes,
        splits=[split for split in SPLITS if any(split in row.by_split for row in classes)],
        is_labelled=any(look.source.label or look.source.mask for look in looks),
        has_splits=any(split for row in classes for split in row.by_split),
        kinds=kinds[:KINDS_SHOWN],
        kinds_more=max(0, len(kinds) - KINDS_SHOWN),
        shown=sorted((look for look in looks if look.picture), key=lambda look: (class_of(look), look.source.path)),
        class_of=class_of,
        ground=draw_map([_on_map(look, header) for look, header in placed], [], None),
        names=[look.source.path for look, _ in placed],
        version=ssvq.__version__,
        made=datetime.now(UTC),
    )
    return page.encode()


def _on_map(look: Look, header: ImageHeader) -> MapImage:
    place = footprints(header, np.array([[0, 0, header.width, header.height]]))[0]
    if place is None and header.longitude is not None and header.latitude is not None:
        place = shapely.Point(header.longitude, header.latitude)
    return MapImage(look.source.image_id, place)


def _percent(share: float | None) -> str:
    if share is None:
        return ""
    return f"{share:.1%}" if 0 < share < 0.1 else f"{share:.0%}"
