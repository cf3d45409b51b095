"""Counts of images and likely problems, the gravest first."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ssvq.check.look import Look
from ssvq.imagery.catalog import NORMAL_LABEL
from ssvq.imagery.masks import NEARLY_ALL
from ssvq.imagery.near_duplicates import close_pairs
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.scores.choose import count

LEAST_NORMAL = 3  # images: one each for training, validation and calibration
NO_LABEL, WITH_ANOMALY, WITHOUT = "no label", "anomalous by mask", "normal by mask"
NORMAL = "normal"


@dataclass(frozen=True)
class Concern:
    """A likely problem. `names`: the images with it."""

    text: str
    names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ClassRow:
    """A class of images: their number, in all and by split, and their median anomalous share if known."""

    name: str
    images: int
    by_split: dict[str, int]
    share: float | None


@dataclass(frozen=True)
class KindRow:
    """Images of one size and kind."""

    width: int
    height: int
    bands: int
    dtype: str
    driver: str
    images: int
    example: str


def class_of(look: Look) -> str:
    """The class of an image, by its label or else by its mask."""
    label = look.source.label
    if label is not None:
        return NORMAL if label == NORMAL_LABEL else label
    if look.source.mask is None:
        return NO_LABEL
    return WITH_ANOMALY if look.share else WITHOUT


def count_classes(looks: Sequence[Look]) -> list[ClassRow]:
    """Images by class, the most frequent first. Refused images have no class."""
    by_class: dict[str, list[Look]] = defaultdict(list)
    for look in looks:
        if look.error is None:
            by_class[class_of(look)].append(look)
    rows = []
    for name, members in by_class.items():
        shares = [look.share for look in members if look.share is not None]
        splits = Counter(look.source.split or "" for look in members)
        rows.append(ClassRow(name, len(members), dict(splits), float(np.median(shares)) if shares else None))
    return sorted(rows, key=lambda row: (-row.images, row.name))


def count_kinds(looks: Sequence[Look]) -> list[KindRow]:
    """Images by size, bands, type and format, the most frequent first."""
    kinds: dict[tuple[int, int, int, str, str], list[str]] = defaultdict(list)
    for look in looks:
        if look.header is not None:
            h = look.header
            kinds[h.width, h.height, h.bands, h.dtype, h.driver].append(look.source.path)
    rows = [KindRow(*kind, len(paths), paths[0]) for kind, paths in kinds.items()]
    return sorted(rows, key=lambda row: (-row.images, row.width, row.height))


def find_warnings(looks: Sequence[Look], rule: PixelRule, *, labelled: bool) -> list[Concern]:
    """Likely problems, the gravest first."""
    usable = [look for look in looks if look.error is None]
    found: list[Concern] = []
    if labelled:
        found += _about_labels(usable)
    named = [look for look in usable if look.source.split is not None]
    splits = [str(look.source.split) for look in named if look.vector is not None]
    compared = [look for look in (named or usable) if look.vector is not None]
    pairs = close_pairs([look.vector for look in compared if look.vector is not None], splits if named else None)
    if pairs:
        where = "in different splits " if named else ""
        text = f"{count(len(pairs), 'pair')} of images {where}look the same: with one in training, figures are too good"
        found.append(Concern(text, [f"{compared[i].source.path} = {compared[j].source.path}" for i, j in pairs]))
    pages = [look.source.path for look in usable if look.header is not None and look.header.pages > 1]
    if pages:
        text = f"only the first page is read of {count(len(pages), 'TIFF')} with several pages: split such files"
        found.append(Concern(text, pages))
    bands = [look for look in usable if look.header is not None and look.header.named_bands not in (None, (1, 2, 3))]
    if bands and rule.bands is None:
        order = ", ".join(map(str, bands[0].header.named_bands or ())) if bands[0].header else ""
        text = f"red, green and blue are the bands {order} of {count(len(bands), 'image')}, since these are named so"
        found.append(Concern(text, [look.source.path for look in bands]))
    return found


def _about_labels(usable: Sequence[Look]) -> list[Concern]:
    found = []
    full = sorted((look for look in usable if (look.share or 0) >= NEARLY_ALL), key=lambda look: -(look.share or 0))
    if full:
        names = [f"{look.source.path} ({look.share:.0%})" for look in full]
        text = f"nearly all of the image is anomalous by {count(len(full), 'mask')}: are they inverted?"
        found.append(Concern(text, names))
    normal = [look for look in usable if class_of(look) in (NORMAL, WITHOUT)]
    partly = [look for look in usable if class_of(look) == WITH_ANOMALY]
    if len(normal) + len(partly) < LEAST_NORMAL:
        text = (
            f"{count(len(normal) + len(partly), 'image')} with normal places: a training needs {LEAST_NORMAL} at least"
        )
        found.append(Concern(text))
    if usable and len(normal) == len(usable):
        found.append(Concern("no image is anomalous: a training learns from normal images alone, and has no AUROC"))
    return found
