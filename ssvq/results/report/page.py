"""The HTML of a report, from its numbers and pictures: one file, no network, readable without its script."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from markupsafe import Markup

import ssvq
from ssvq.results.html import page_template, read_part
from ssvq.results.pictures.heat import FULL_SCALE
from ssvq.results.report.bins import Bins
from ssvq.results.report.data import ReportData
from ssvq.results.report.findings import ReportFindings, script_data, template_parts
from ssvq.results.report.formats import FILTERS, decimals
from ssvq.results.report.ground_map import draw_map, heat_colour
from ssvq.results.report.pictures import Picture
from ssvq.results.report.shown import ReportImage

BARS = 64  # of the distribution; a calibration of a few hundred tiles supports no finer ones
LEGEND_STEPS = 8


def render(data: ReportData, pictures: Sequence[Picture], findings: ReportFindings | None = None) -> bytes:
    """The page as UTF-8. The pictures belong to the first images."""
    filters = {**FILTERS, "as_json": _indented}
    bins = data.bins
    threshold = None if bins is None else bins.threshold
    shown = [*pictures, *[None] * (len(data.images) - len(pictures))]
    times = [row.recorded_at for row in (*data.images, *data.failures) if row.recorded_at is not None]
    model = data.model
    calibration = model.get("calibration", {})
    page = page_template("ssvq.results.report/page.html", filters).render(
        data=data,
        css=Markup("".join(read_part(f"ssvq.results.report/{name}.css") for name in ("page", "findings"))),
        js=Markup("".join(read_part(f"ssvq.results.report/{name}.js") for name in ("store", "page", "findings"))),
        findings=findings,
        **({} if findings is None else template_parts(findings)),
        decimals=decimals(data.images),
        rows=list(zip(data.images, shown, strict=True)),
        names=[image.image_uri.rsplit("/", 1)[-1] for image in data.images],
        summary=data.summary,
        calibration={name: value for name, value in calibration.items() if name != "normal_scores"},
        settings={name: value for name, value in model.items() if name not in ("calibration", "metrics")},
        chart=None if bins is None else _chart(bins),
        ground=draw_map([image.on_map for image in data.images], data.tiles_on_map, threshold),
        legend=None if threshold is None else _legend(threshold),
        threshold=threshold,
        since=min(times, default=None),
        until=max(times, default=None),
        script_data=_in_script(_script_data(data)),
        script_findings=_in_script(script_data(findings, data.images, pictures)),
        script_pictures=_in_script([_for_viewer(*shown) for shown in zip(pictures, data.images, strict=False)]),
        version=ssvq.__version__,
        made=datetime.now(UTC),
    )
    return page.encode()


def _script_data(data: ReportData) -> dict[str, Any]:
    return data.partition.identity | ({} if data.bins is None else asdict(data.bins))


def _for_viewer(picture: Picture, image: ReportImage) -> dict[str, Any] | None:
    if picture.problem is not None:
        return None
    names = ("preview", "width", "height", "heat", "heat_width", "heat_height", "frames")
    source = {"id": image.image_id, "size": [image.image_width, image.image_height]}
    return {name: getattr(picture, name) for name in names} | source


def _chart(bins: Bins) -> dict[str, Any]:
    """Areas of the distribution in units of bins (x) and thousandths (y). Heights are square roots of shares, so that
    the few anomalous tiles in a long tail are visible.
    """
    together = max(1, round(len(bins.tiles) / BARS))
    first = bins.at % together  # a bar begins at the threshold
    edges = sorted({0, *range(first, len(bins.tiles), together), len(bins.tiles)})
    shares = {}
    for name, counts in (("tiles", bins.tiles), ("normal", bins.normal)):
        total = sum(counts)
        shares[name] = [sum(counts[a:b]) / total / (b - a) * together if total else 0.0 for a, b in pairwise(edges)]
    tallest = max(max(values) for values in shares.values()) or 1.0

    def outline(values: Sequence[float]) -> str:
        tops = [round(1000 * (1 - (value / tallest) ** 0.5)) for value in values]
        steps = "".join(f"L{a},{y}L{b},{y}" for (a, b), y in zip(pairwise(edges), tops, strict=True))
        return f"M0,1000{steps}L{len(bins.tiles)},1000"

    ticks = [(100 * i / 5, f"{bins.low + i / 5 * len(bins.tiles) * bins.width:.4g}") for i in range(6)]
    return {
        "number": len(bins.tiles),
        "tiles": outline(shares["tiles"]),
        "normal": outline(shares["normal"]) if sum(bins.normal) else None,
        "normal_tiles": sum(bins.normal),
        "false_alarms": sum(bins.normal[bins.at :]),
        "ticks": ticks,
    }


def _legend(threshold: float) -> list[str]:
    return [heat_colour(FULL_SCALE * threshold * i / (LEGEND_STEPS - 1), threshold) for i in range(LEGEND_STEPS)]


def _in_script(value: Any) -> Markup:
    """JSON that can neither end its script element nor open a comment in it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(re.sub(r"[<>&\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text))


def _indented(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)
