"""Finds the findings of many images, in several processes."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import pyarrow as pa

from ssvq.imagery.pixel_rule import PixelRule
from ssvq.io import storage
from ssvq.parallel import in_order
from ssvq.progress import Progress
from ssvq.results.findings.change.image import EarlierImage, Outcome, Tolerance, compare_image
from ssvq.results.findings.change.views import views_of
from ssvq.results.findings.severity import SeverityRule
from ssvq.results.findings.table import Bounds, findings_of
from ssvq.scores.findings import Finding, to_table
from ssvq.scores.ledger_row import ImageRow
from ssvq.scores.objects import HeatScale


@dataclass(frozen=True)
class Comparing:
    """How findings are compared with those of the survey `previous`."""

    previous: str
    rule: PixelRule
    tolerance: Tolerance


@dataclass(frozen=True)
class Work:
    """The work on images of one model. `comparing` is None without an earlier survey."""

    scores: str
    scale: HeatScale
    bounds: Bounds
    rules: list[SeverityRule]
    timeout: float
    comparing: Comparing | None = None

    def __call__(self, items: Sequence["Item"]) -> "Found":
        """Raises InputError if a score map is missing or damaged."""
        storage.set_timeout(self.timeout)
        findings: list[Finding] = []
        outcomes = []
        for item in items:
            of_image = findings_of(self.scores, item.image, self.scale, self.bounds, self.rules)
            if self.comparing is not None:
                of_image, outcome = self._compare(item, of_image, self.comparing)
                outcomes.append(outcome)
            findings += of_image
        return Found(to_table(findings), outcomes)

    def _compare(self, item: "Item", findings: list[Finding], how: Comparing) -> tuple[list[Finding], Outcome]:
        """The findings of an image with the columns of the comparison, and its outcome."""
        ids, outlines = [one.finding_id for one in findings], [one.outline for one in findings]
        views = views_of(self.scores, self.scale, how.rule)
        outcome = compare_image(item.image, ids, outlines, item.earlier, views, how.tolerance)
        compared = [
            replace(
                finding,
                change=change.change,
                previous_survey=how.previous,
                previous_id=change.previous_id,
                previous_area=change.previous_area,
                growth=change.growth,
            )
            for finding, change in zip(findings, outcome.comparison.changes, strict=True)
        ]
        return compared, outcome


@dataclass(frozen=True)
class Item:
    """An image, and the earlier ones to compare it with."""

    image: ImageRow
    earlier: Sequence[EarlierImage] = ()


@dataclass(frozen=True)
class Found:
    """Rows of FINDINGS of some images, and their comparisons, one for each image that has any."""

    rows: pa.Table
    outcomes: list[Outcome]


@dataclass(frozen=True)
class Shares:
    """Images in one task of a process, and the smallest number of images that is worth starting processes."""

    at_once: int = 32
    alone: int = 200


def share(work: Work, images: Sequence[ImageRow], item: Callable[[int], Item], shares: Shares) -> Iterator[Found]:
    """The findings of images, in their order. `item`: makes the item of an image, by its index, when its turn comes."""
    with Progress("finding", len(images), "images") as progress:
        if len(images) <= shares.alone:
            for index in range(len(images)):
                yield work([item(index)])
                progress.advance(1)
            return
        starts = range(0, len(images), shares.at_once)
        some = ([item(index) for index in range(at, min(at + shares.at_once, len(images)))] for at in starts)
        processes = os.cpu_count() or 1
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            for start, found in zip(starts, in_order(pool, work, some, 4 * processes), strict=True):
                yield found
                progress.advance(min(shares.at_once, len(images) - start))
