"""Pictures of held-out tiles, for a tracker."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ssvq.model.accuracy import Split
from ssvq.model.calibration import Calibration
from ssvq.training.tile_cache import TileRef
from ssvq.training.tile_reader import tile_pixels

if TYPE_CHECKING:  # else loaded with what is drawn
    from matplotlib.figure import Figure

COLUMNS = 8
PANEL = 1.6  # inches


def draw_scores(held_out: pa.Table, split: Split, calibration: Calibration) -> "Figure":
    """Histogram and ROC curve of the tiles of a split, as in `ssvq evaluate`."""
    from ssvq.model.score_plot import draw_plot  # brings scikit-learn

    tiles = held_out.filter(pc.equal(held_out["split"], split))
    return draw_plot(tiles, calibration.deciding, calibration.decides)


def draw_mistakes(
    cache: str,
    tile_size: int,
    tiles: list[TileRef],
    scores: NDArray[np.float64],
    anomalous: NDArray[np.bool_],
    threshold: float,
) -> "Figure":
    """The normal tiles with the highest scores, and the anomalous ones with the lowest.

    Tiles of a cache, with scores float64 (n,) and labels bool (n,).
    """
    from matplotlib.figure import Figure

    highest = [i for i in np.argsort(-scores) if not anomalous[i]][:COLUMNS]
    lowest = [i for i in np.argsort(scores) if anomalous[i]][:COLUMNS]
    rows = [(title, some) for title, some in (("normal", highest), ("anomalous", lowest)) if some]
    figure = Figure(figsize=(COLUMNS * PANEL, max(1, len(rows)) * (PANEL + 0.4)), dpi=100, layout="constrained")
    panels: Any = figure.subplots(max(1, len(rows)), COLUMNS, squeeze=False)
    for panel in panels.flat:
        panel.axis("off")
    for line, (title, some) in zip(panels, rows, strict=False):
        for panel, i in zip(line, some, strict=False):
            tile = tiles[i]
            panel.imshow(tile_pixels(cache, tile, tile_size)[: tile.height, : tile.width])
            panel.set_title(f"{title}: {scores[i]:.3g}", fontsize=8)
    figure.suptitle(
        f"Mistakes first: highest normal and lowest anomalous scores; threshold {threshold:.3g}", fontsize=9
    )
    return figure
