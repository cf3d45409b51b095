"""Progress of scoring: images of the survey, and tiles a second."""

import time

from ssvq.progress import Progress


class ScoringProgress(Progress):
    """Counts images and shares of images; the total is None while the survey is being listed."""

    def __init__(self, images: int | None) -> None:
        super().__init__("scoring", images, "images")
        self.tiles = 0

    def advance(self, images: float, tiles: int) -> None:  # type: ignore[override]
        """Count a part as done."""
        self.tiles += tiles
        rate = self.tiles / max(time.monotonic() - self.started, 1e-9)
        super().advance(images, f"{self.tiles} tiles, {rate:.1f} a second")
