"""Matches decisions to findings: the table is made again and again, and people's decisions are found by their region.

The rule, for findings and decisions of the same version of the same image:

1. A decision belongs to a finding if the intersection of both regions is at least half of their union (IoU >= 0.5). So
it survives another model, threshold or tiling, as long as the region is the same.
2. A confirmation also holds for the finding with its id, whatever its outline now is.
3. Of several decisions the latest counts.
4. A rejected or resolved region must not hide a confirmed one. A finding is `new` again if it holds at least half of a
confirmed region that the rejection was not about, or that was confirmed later.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from ssvq.results.findings.decisions import Decision, in_order, version_of
from ssvq.scores.findings import Finding, to_table

SAME_REGION = 0.5
"""Smallest intersection over union of two regions that count as one."""

HIDING = ("rejected", "resolved")

ImageVersion = tuple[str, str]
"""Id of an image, and the version of its file."""


def decide(findings: Sequence[Finding], decisions: Sequence[Decision]) -> tuple[list[Finding], list[Decision]]:
    """The findings of one survey, in their order, with their states from decisions.

    Also returns the latest decisions that match no finding, such as those on images that have changed.
    """
    by_image: dict[ImageVersion, list[Decision]] = {}
    for decision in in_order(decisions):
        by_image.setdefault((decision.image_id, decision.version), []).append(decision)
    positions: dict[ImageVersion, list[int]] = {}
    for position, finding in enumerate(findings):
        positions.setdefault((finding.image_id, version_of(finding.fingerprint)), []).append(position)
    decided = [replace(finding, state="new", decided_by=None, decided_at=None, note=None) for finding in findings]
    left: list[Decision] = []
    for version, made in by_image.items():
        own = positions.get(version, [])
        regions = shapely.from_wkb([findings[at].outline for at in own])
        found = decisions_for([findings[at].finding_id for at in own], regions, made)
        for at, one in zip(own, found, strict=True):
            if one is not None:
                decided[at] = replace(
                    decided[at], state=one.state, decided_by=one.decided_by, decided_at=one.decided_at, note=one.note
                )
        used = {id(one) for one in found}
        left += [decision for decision in latest_by_region(made) if id(decision) not in used]
    return decided, left


class Decided:
    """Fills the states of findings, which come by whole images, from the decisions on their survey.

    `states` counts them; `left` are the latest decisions that match no finding so far.
    """

    def __init__(self, decisions: Iterable[Decision]) -> None:
        self.states: Counter[str] = Counter()
        self._left: list[Decision] = []
        self._waiting: dict[str, list[Decision]] = {}
        for decision in decisions:
            self._waiting.setdefault(decision.image_id, []).append(decision)

    def fill(self, findings: pa.Table) -> pa.Table:
        """Rows of FINDINGS, all rows of their images, with their states."""
        here = [self._waiting.pop(image_id, []) for image_id in pc.unique(findings["image_id"]).to_pylist()]
        if any(here):
            decided, left = decide(Finding.from_table(findings), list(chain.from_iterable(here)))
            self._left += left
            findings = to_table(decided)
        self.states.update(findings["state"].to_pylist())
        return findings

    @property
    def left(self) -> list[Decision]:
        """The latest decisions that match no finding. Known once all findings have come."""
        return self._left + decide([], list(chain.from_iterable(self._waiting.values())))[1]


def decisions_for(
    ids: Sequence[str], outlines: Sequence[BaseGeometry], decisions: Sequence[Decision]
) -> list[Decision | None]:
    """The decision on each finding of one version of an image, by the rule above; None for an undecided one.

    `decisions`: all on that version, from the earliest to the latest.
    """
    regions = [decision.region for decision in decisions]
    same = overlaps(outlines, regions) >= SAME_REGION
    latest_of_id = {decision.finding_id: position for position, decision in enumerate(decisions)}
    found: list[Decision | None] = []
    for row, (finding_id, outline) in enumerate(zip(ids, outlines, strict=True)):
        about = np.flatnonzero(same[row]).tolist()
        own = latest_of_id.get(finding_id)
        if own is not None and decisions[own].state == "confirmed":
            about.append(own)
        latest = decisions[max(about)] if about else None
        if latest is not None and latest.state in HIDING:
            others = [one for position, one in enumerate(decisions) if position not in about]
            if any(_is_hidden(one, outline, latest) for one in others if one.state == "confirmed"):
                latest = None
        found.append(latest)
    return found


def latest_by_region(decisions: Iterable[Decision]) -> list[Decision]:
    """The decisions that count for one version of an image, from the earliest to the latest: those without a later
    decision about the same region or finding.
    """
    ordered = in_order(decisions)
    same = overlaps([one.region for one in ordered], [one.region for one in ordered]) >= SAME_REGION
    return [
        one
        for position, one in enumerate(ordered)
        if not same[position, position + 1 :].any()
        and all(later.finding_id != one.finding_id for later in ordered[position + 1 :])
    ]


def overlaps(first: Sequence[BaseGeometry], second: Sequence[BaseGeometry]) -> NDArray[np.float64]:
    """Intersection over union of each pair of regions, float64 (n, m)."""
    found = np.zeros((len(first), len(second)))
    if not found.size:
        return found
    a, b = np.asarray(first, dtype=object), np.asarray(second, dtype=object)
    left, right = shapely.STRtree(b).query(a)
    common = shapely.area(shapely.intersection(a[left], b[right]))
    found[left, right] = common / (shapely.area(a[left]) + shapely.area(b[right]) - common)
    return found


def _is_hidden(confirmed: Decision, outline: BaseGeometry, hiding: Decision) -> bool:
    """Whether a finding holds a confirmed region that this decision was not about, and that it would hide."""
    half = 0.5 * confirmed.region.area
    if shapely.intersection(confirmed.region, outline).area < half:
        return False
    was_seen = shapely.intersection(confirmed.region, hiding.region).area >= half
    return not was_seen or confirmed.decided_at > hiding.decided_at
