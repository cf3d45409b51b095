"""What labels mean: which words call an image normal; every other word is the name of a defect."""

from collections import Counter
from collections.abc import Iterable, Sequence

from ssvq import logs
from ssvq.imagery.catalog import NORMAL_LABEL, SourceImage

NORMAL_WORDS = ("good", "normal", "ok", "pass", "0", "0.0", "false", "no")
"""In any case of letters."""

BACKGROUND_WORDS = ("background", "_background_", "__background__")
"""What label tools call the part of an image that is nothing else."""


def label_of(word: str | None, more: Sequence[str] = ()) -> str | None:
    """NORMAL_LABEL for a word that calls an image normal, `more` of which a user names; else the word itself."""
    if word is None:
        return None
    known = {*NORMAL_WORDS, *(other.strip().lower() for other in more)}
    return NORMAL_LABEL if word.strip().lower() in known else word.strip()


def tell_classes(images: Iterable[SourceImage]) -> None:
    """Say which classes the labels of images have, each with its count, before work begins."""
    counts = Counter(image.label for image in images if image.label is not None)
    defects = [f"{name} {number}" for name, number in sorted(counts.items()) if name != NORMAL_LABEL]
    if defects:
        logs.info(
            f"labels: normal {counts[NORMAL_LABEL]}; defects: {', '.join(defects)} (other words for normal: "
            "--normal-labels)"
        )
