"""What a report shows of an image."""

from dataclasses import dataclass

from ssvq.results.ground import footprint_or_camera
from ssvq.results.report.ground_map import MapImage
from ssvq.scores.ledger_row import ImageRow


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportImage(ImageRow):
    """A scored image with statistics of its tiles that have a finite score."""

    scored_tiles: int
    worst: float | None
    """Highest score; None without tiles."""
    p_value: float | None
    """Lowest p-value."""
    over: int
    """Tiles at or over the threshold."""
    frames: list[tuple[int, int, int, int]]
    """The worst of these: x, y, width and height."""
    bin: int
    """Bin of the highest score; -1 without one."""

    @property
    def on_map(self) -> MapImage:
        """The image for the map."""
        return MapImage(self.image_id, footprint_or_camera(self), self.worst)
