"""Fig. 6: latents of test tiles in two dimensions by t-SNE, by class and by judgement."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from ssvq.errors import InputError
from ssvq.experiments.cells import test_tiles
from ssvq.experiments.grid import Cell
from ssvq.inference.scorer import normalise
from ssvq.io import storage
from ssvq.methods.autoencoder import PretrainedMethod
from ssvq.methods.base import mean_over_cells
from ssvq.methods.build import load_method
from ssvq.methods.ss_vqvae import SSVQVAE
from ssvq.model import bundle as bundles
from ssvq.model.calibration import equal_error_rate_threshold
from ssvq.model.score_plot import ANOMALOUS, NORMAL
from ssvq.training.tile_cache import read_index, tile_refs
from ssvq.training.tile_reader import tile_pixels

MOST_TILES = 1000
IN_BATCH = 64
_KEY = ("image_id", "x", "y")  # of a tile
OUTCOMES = (
    ("normal, judged normal", NORMAL, "o", (False, False)),
    ("anomalous, judged anomalous", ANOMALOUS, "o", (True, True)),
    ("normal, judged anomalous", "#222222", "^", (False, True)),
    ("anomalous, judged normal", "#ccbb44", "v", (True, False)),
)
"""The paper calls normal the positive class: these are its TP, TN, FN and FP, in this order."""


def latents_figure(cells: Sequence[Cell], seed: int = 0) -> Figure:
    """For each method two rows of panels, by class and by judgement at rho, and a column for each supervision level."""
    methods = list(dict.fromkeys(cell.row.label for cell in cells))
    gammas = sorted({cell.gamma for cell in cells})
    figure = Figure(figsize=(4.2 * len(gammas), 4.0 * 2 * len(methods)), layout="constrained")
    panels = figure.subplots(2 * len(methods), len(gammas), squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    for cell in cells:
        tiles = _some(test_tiles(cell), seed)
        places = TSNE(2, init="pca", random_state=seed, perplexity=min(30, len(tiles) - 1)).fit_transform(
            latents(cell, tiles)
        )
        row, column = 2 * methods.index(cell.row.label), gammas.index(cell.gamma)
        _draw_cell(panels[row, column], panels[row + 1, column], cell, places, tiles)
    by_label: dict[str, Artist] = {}
    for panel in panels.flat:
        by_label |= {label: handle for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(
        list(by_label.values()), list(by_label), loc="outside lower center", ncols=3, frameon=False, markerscale=2
    )
    return figure


def latents(cell: Cell, tiles: pa.Table) -> NDArray[np.float32]:
    """The mean latent of each tile over its cells, float32 (n, D), of a finished cell."""
    bundle = bundles.read_description(cell.config.out)
    method = load_method(cell.config.out, bundle)
    if not isinstance(method, SSVQVAE | PretrainedMethod):
        raise TypeError(f"{bundle.method} has no latents of its own")
    encoder = (method if isinstance(method, SSVQVAE) else method.autoencoder).eval().encoder
    cache = storage.join(str(cell.config.tile_cache), str(bundle.training["data_fingerprint"]))
    index = read_index(cache)
    if index is None:
        raise InputError(f"{cache} is gone, which held the tiles of {cell.name}: give another --out")
    place = {key: row for row, key in enumerate(zip(*(index[name].to_pylist() for name in _KEY), strict=True))}
    wanted = [place[key] for key in zip(*(tiles[name].to_pylist() for name in _KEY), strict=True)]
    refs = tile_refs(index, np.array(wanted, np.int64))
    found = []
    for start in range(0, len(refs), IN_BATCH):
        batch = refs[start : start + IN_BATCH]
        pixels = np.stack([tile_pixels(cache, ref, cell.config.tile_size) for ref in batch])
        with torch.inference_mode():
            images = normalise(torch.from_numpy(pixels), bundle.preprocessing)
            found.append(mean_over_cells(encoder(images), None).numpy())
    return np.concatenate(found)


def _some(tiles: pa.Table, seed: int) -> pa.Table:
    chosen = np.random.default_rng(seed).permutation(len(tiles))[:MOST_TILES]
    return tiles.take(np.sort(chosen))


def _draw_cell(by_class: Axes, by_outcome: Axes, cell: Cell, places: NDArray[np.float32], tiles: pa.Table) -> None:
    anomalous, scores = tiles["anomalous"].to_numpy(), tiles["score"].to_numpy()
    judged = scores >= equal_error_rate_threshold(scores, anomalous)
    kinds = [("normal", NORMAL, "o", ~anomalous), ("anomalous", ANOMALOUS, "o", anomalous)]
    kinds_judged = [
        (label, colour, marker, (anomalous == is_anomalous) & (judged == said))
        for label, colour, marker, (is_anomalous, said) in OUTCOMES
    ]
    titles = (f"{cell.row.label}, gamma {cell.gamma:g}: class", "judged at the equal error rate")
    for panel, title, shown in ((by_class, titles[0], kinds), (by_outcome, titles[1], kinds_judged)):
        panel.set_title(title, loc="left", fontsize=11)
        for label, colour, marker, chosen in shown:
            x, y = places[chosen].T
            panel.scatter(x, y, s=10, color=colour, marker=marker, alpha=0.7, linewidths=0, label=label)
