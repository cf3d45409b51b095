"""What became of a survey since an earlier one: which images are compared, and what was found of all of them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import shapely
from shapely.geometry.base import BaseGeometry

from ssvq.errors import InputError
from ssvq.results.findings.change.earlier import EarlierFindings, earlier_images
from ssvq.results.findings.change.image import EarlierImage, Outcome
from ssvq.results.findings.change.pairs import pair_images
from ssvq.results.findings.settings import FindingsConfig
from ssvq.scores.choose import count
from ssvq.scores.findings import Finding, to_table
from ssvq.scores.layout import Partition
from ssvq.scores.ledger_row import ImageRow

NAMED = 5  # images in a line about several
ORDER = ("new", "grown", "shrunk", "unchanged")


@dataclass(frozen=True)
class _Lost:
    """Where an earlier finding lay, in the pixels of a later image that shows it no more."""

    image: ImageRow
    outline: BaseGeometry


class Since:
    """The comparison of a partition, of which `images` are all, with `config.previous`. `folder` is
    for files that wait on disk.

    Raises InputError where the surveys cannot be compared, or have no place in common.
    """

    def __init__(self, config: FindingsConfig, partition: Partition, images: Sequence[ImageRow], folder: Path) -> None:
        self.config, self.name = config, str(config.previous)
        self.earlier = earlier_images(config, partition)
        before = Partition(partition.out, self.name, partition.model_id, partition.tiling_id)
        self.findings = EarlierFindings(folder, before, self.earlier, config.thresholds)
        self.pairing = pair_images(config, images, self.earlier)
        if not any(self.pairing.candidates):
            reason, alone = max(self.pairing.alone.items(), key=lambda item: len(item[1]))
            raise InputError(
                f"surveys {config.survey!r} and {self.name!r} have no place in common: of {_named(alone)}, {reason}"
            )
        self.compared = 0
        self.changes: Counter[str | None] = Counter()
        self.unregistered: dict[str, list[str]] = {}
        self.unread: dict[str, str] = {}
        self.matched: set[str] = set()
        self.lost: dict[str, _Lost] = {}

    @property
    def registers(self) -> bool:
        """Whether photographs are read and registered."""
        return any(candidate.how == "features" for found in self.pairing.candidates for candidate in found)

    def candidates(self, index: int) -> list[EarlierImage]:
        """The earlier images that may show what a later one shows, by its position, with their findings."""
        found = []
        for candidate in self.pairing.candidates[index]:
            image = self.earlier[candidate.earlier]
            rows = self.findings.of(image.image_id)
            found.append(
                EarlierImage(image, candidate.how, rows["finding_id"].to_pylist(), rows["outline"].to_pylist())
            )
        return found

    def add(self, image: ImageRow, outcome: Outcome) -> None:
        """Count what was found of an image."""
        self.unread.update(outcome.unread)
        self.changes.update(change.change for change in outcome.comparison.changes)
        if outcome.unregistered is not None:
            self.unregistered.setdefault(outcome.unregistered, []).append(image.image_uri)
            return
        self.compared += 1
        self.matched |= outcome.comparison.matched
        for lost in outcome.comparison.lost:
            known = self.lost.get(lost.finding_id)
            if known is None or known.outline.area < lost.outline.area:
                self.lost[lost.finding_id] = _Lost(image, lost.outline)

    def gone(self) -> Iterator[pa.Table]:
        """Rows of FINDINGS of what was found in the earlier survey and is not there any more, by later image.

        Raises InputError where no image could be compared.
        """
        if self.unregistered and not self.compared:
            reason, images = max(self.unregistered.items(), key=lambda item: len(item[1]))
            example = "".join(f" ({uri} {problem})" for uri, problem in list(self.unread.items())[:1])
            raise InputError(
                f"no image of {self.config.survey!r} could be registered with one of {self.name!r}: {_named(images)}: "
                f"{reason}{example}; nothing was written"
            )
        by_image = {image.image_id: image for image in self.earlier}
        gone = {finding_id: lost for finding_id, lost in self.lost.items() if finding_id not in self.matched}
        self.changes["gone"] = len(gone)
        wanted = pa.array(gone, pa.string())
        for image_id in by_image if gone else ():
            rows = self.findings.of(image_id)
            rows = rows.filter(pc.is_in(rows["finding_id"], wanted))
            if len(rows):
                yield to_table([self._gone(one, gone[one.finding_id]) for one in Finding.from_table(rows)])

    def _gone(self, earlier: Finding, lost: _Lost) -> Finding:
        """What is gone: an earlier finding, with its place in a later image, where it has no area."""
        left, top, right, bottom = (round(edge) for edge in lost.outline.bounds)
        image = lost.image
        return replace(
            earlier,
            survey=image.survey,
            image_uri=image.image_uri,
            image_id=image.image_id,
            fingerprint=image.fingerprint,
            model_id=image.model_id,
            tiling_id=image.tiling_id,
            x=left,
            y=top,
            width=right - left,
            height=bottom - top,
            area_pixels=0.0,
            image_share=0.0,
            area_m2=None if earlier.area_m2 is None else 0.0,
            distance_max=None,
            distance_mean=None,
            times_threshold=None,
            p_value_worst=None,
            p_value_mean=None,
            tiles=0,
            change="gone",
            previous_survey=self.name,
            previous_id=earlier.finding_id,
            previous_area=lost.outline.area,
            growth=0.0,
            outline=shapely.to_wkb(lost.outline),
        )

    def told(self) -> str:
        """`since '2025': 1 new, 2 grown, 3 unchanged, 1 gone`."""
        numbers = [f"{self.changes[name]:,} {name}" for name in (*ORDER, "gone") if self.changes[name]]
        unseen = self.changes[None]
        told = ", ".join(numbers) or "nothing to compare"
        return f"since {self.name!r}: {told}" + (f"; {count(unseen, 'finding')} at places not seen then" * bool(unseen))

    def warnings(self) -> Iterator[str]:
        """What could not be compared, in lines."""
        if self.findings.outdated:
            yield (
                f"{count(self.findings.outdated, 'finding')} of {self.name!r} left out, whose images have changed "
                f"since: run `ssvq findings --survey {self.name}` again"
            )
        for reason, images in self.pairing.alone.items():
            yield f"not compared: {_named(images)}: {reason}"
        for reason, images in self.unregistered.items():
            yield f"not compared: {_named(images)}: not registered with an image of {self.name!r}, {reason}"
        for uri, reason in self.unread.items():
            yield f"warning: {uri} {reason}"


def _named(addresses: Sequence[str]) -> str:
    """`2 images (a.jpg, b.jpg)`."""
    names = [address.rsplit("/", 1)[-1] for address in addresses[:NAMED]]
    more = ", ..." if len(addresses) > NAMED else ""
    return f"{count(len(addresses), 'image')} ({', '.join(names)}{more})"
