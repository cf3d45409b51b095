"""Takes the decisions of a page's file: checks which belong to the current scores, and which contradict earlier
ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ssvq.errors import InputError
from ssvq.io import storage
from ssvq.results.findings.decisions import Decision, in_order, version_of
from ssvq.results.findings.states import SAME_REGION, overlaps
from ssvq.results.page_file import PageDecision, PageFile
from ssvq.scores.ledger_row import ImageRow


@dataclass(frozen=True)
class Taken:
    """The decisions of a file about the current version of their image, and lines about the others."""

    decisions: list[Decision]
    older: list[str]


def check_decisions(page: PageFile, address: str, images: Mapping[str, ImageRow], who: str) -> Taken:
    """Check the decisions of a page's file.

    `images`: the scored images of the survey, by image_id. `who`: the person, if the page does not name one.

    Raises InputError for a region outside its image, and if no decision is about the current scores.
    """
    decisions: list[Decision] = []
    older: list[str] = []
    for made in page.decisions:
        image = images.get(made.image_id)
        if image is None:
            older.append(f"finding {made.finding_id}: its image {made.image_id} is not among the scored images")
        elif version_of(image.fingerprint) != version_of(made.fingerprint):
            older.append(f"finding {made.finding_id}: {image.image_uri} has changed since the page was made")
        else:
            _check_place(made, address, image)
            decisions.append(_decision(made, page, image, who))
    if older and not decisions:
        raise InputError(
            f"--from {address} was made from older scores, and nothing was written: {older[0]}"
            + (f"; so are {len(older) - 1:,} more" if len(older) > 1 else "")
            + "; make the page again by `ssvq report`"
        )
    return Taken(decisions, older)


def contradictions(before: Sequence[Decision], taken: Sequence[Decision]) -> list[str]:
    """Lines about decisions that contradict an earlier one of another person or file."""
    told = []
    for one in in_order(taken):
        others = [
            other for other in before if (other.image_id, other.version) == (one.image_id, one.version) and other != one
        ]
        same = overlaps([one.region], [other.region for other in others])[0] >= SAME_REGION
        about = [other for other, is_same in zip(others, same, strict=True) if is_same]
        last = in_order(about)[-1] if about else None
        if last is None or last.state == one.state or last.state == "new":
            continue
        place = f"{storage.base_name(one.image_uri)} at {', '.join(f'{int(v)}' for v in one.region.bounds[:2])}"
        verb = "replaces" if last.decided_at <= one.decided_at else "is earlier than and does not replace"
        told.append(f"{place}: {_said(one)} {verb} {_said(last)}")
    return told


def _said(decision: Decision) -> str:
    return f"{decision.state} by {decision.decided_by} ({decision.decided_at:%Y-%m-%d %H:%M} UTC)"


def _check_place(made: PageDecision, address: str, image: ImageRow) -> None:
    left, top, right, bottom = made.outline.bounds
    if left < 0 or top < 0 or right > image.image_width or bottom > image.image_height:
        raise InputError(
            f"--from {address} is damaged: finding {made.finding_id} is not within {image.image_uri} of "
            f"{image.image_width}x{image.image_height} pixels; save it again"
        )


def _decision(made: PageDecision, page: PageFile, image: ImageRow, who: str) -> Decision:
    return Decision(
        survey=page.survey,
        image_uri=image.image_uri,
        image_id=made.image_id,
        fingerprint=made.fingerprint,
        model_id=page.model_id,
        tiling_id=page.tiling_id,
        finding_id=made.finding_id,
        state=made.state,
        decided_by=made.decided_by or who,
        decided_at=made.decided_at,
        note=made.note,
        region=made.outline,
    )
