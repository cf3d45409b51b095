"""Words of labels: which ones call an image normal. Every other word is the name of a defect."""

from collections import Counter
from collections.abc import Iterable, Sequence

from ssvq import logs
from ssvq.imagery.catalog import NORMAL_LABEL, SourceImage

NORMAL_WORDS = ("good", "normal", "ok", "pass", "0", "0.0", "false", "no")
"""Case does not matter."""

BACKGROUND_WORDS = ("background", "_background_", "__background__")
"""Words of label tools for the background."""


def label_of(word: str | None, more: Sequence[str] = ()) -> str | None:
    """NORMAL_LABEL for a word that means normal, including the user's words in `more`; else the word itself."""
    if word is None:
        return None
    known = {*NORMAL_WORDS, *(other.strip().lower() for other in more)}
    return NORMAL_LABEL if word.strip().lower() in known else word.strip()


def tell_classes(images: Iterable[SourceImage]) -> None:
    """Print the classes in the labels of images, with counts, before work begins."""
    counts = Counter(image.label for image in images if image.label is not None)
    defects = [f"{name} {number}" for name, number in sorted(counts.items()) if name != NORMAL_LABEL]
    if defects:
        logs.info(
            f"labels: normal {counts[NORMAL_LABEL]}; defects: {', '.join(defects)} (other words for normal: "
            "--normal-labels)"
        )
