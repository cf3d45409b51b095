"""The stages of scoring on Ray Data: CPU tasks read, an actor pool scores, CPU tasks write."""

import hashlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from ssvq.errors import InputError, reason_of
from ssvq.imagery.grid import Tiling
from ssvq.model.description import Bundle
from ssvq.runtime.dispatcher import ATTEMPTS, Dispatcher
from ssvq.runtime.placement import anywhere, cpu_scorers, gpus_for, node_cpus, readers, share_of_cpus
from ssvq.runtime.planning import ImageStream
from ssvq.scoring.jpeg_files import score_files
from ssvq.scoring.reading import read_parts
from ssvq.scoring.rows import READ, SCORED, SCORES, binary, binary_of, flat, list_of, one_row
from ssvq.scoring.settings import ScoringSettings
from ssvq.scoring.writer import ScoringRun, write_parts

if TYPE_CHECKING:  # it brings torch
    from ssvq.inference.scorer import TileScorer, TileScores

MakeScorer = Callable[[ScoringSettings], "TileScorer"]

# A CPU scorer uses its whole node, whatever it asks for. It asks for little: when a cluster shrinks and the scorers
# move to the last nodes, the readers still get logical CPUs there. Without them they would wait for ever.
CPU_SCORER_CPUS = 0.1
WRITING_CPUS = 0.05
CALLS_AT_ONCE = 3  # rows in a scorer at once: one arrives, one is computed, one leaves
DIED = f"the process that scored it died {ATTEMPTS} times (out of memory?)"


def load_scorer(config: ScoringSettings) -> "TileScorer":
    """Load the scorer of a process. Raises InputError if the bundle, the device or the compiler is missing."""
    import torch  # imported here: processes that only read or write start in half the time, and with less memory

    from ssvq.inference.scorer import TileScorer

    # Ray limits a worker's threads to its logical CPUs; a scorer may use the whole machine.
    torch.set_num_threads(node_cpus())
    return TileScorer.from_bundle(
        config.model,
        config.batch_size,
        config.device,
        config.precision,
        compile=config.compile,
        share=config.gpus_per_scorer,
        decode_on_gpu=config.decode == "gpu",
    )


def score_images(
    stream: ImageStream,
    config: ScoringSettings,
    bundle: Bundle,
    tiling: Tiling,
    make_scorer: MakeScorer = load_scorer,
) -> ray.data.Dataset:
    """A dataset of SCORED rows of the images of a stream."""
    preprocessing = bundle.preprocessing
    gpus = gpus_for(config.device)
    if config.decode == "gpu" and not gpus:
        raise InputError("--decode gpu: no GPU for the scorers in this cluster; use --decode cpu")
    tiles = stream.units(tiling, preprocessing.pixels, config.read).map_batches(
        read_parts,
        batch_format="pyarrow",
        fn_kwargs={
            "limits": config.read,
            "cell": preprocessing.cell,
            "dispatcher": stream.dispatcher,
            "jpegs_as_files": config.decode == "gpu",
        },
        num_cpus=1,
        **readers(),
    )
    return tiles.map_batches(
        ScoreParts,
        batch_size=1,  # rows, each of which fills whole batches of the model
        batch_format="pyarrow",
        compute=_pool(config, gpus),
        fn_constructor_kwargs={"config": config, "dispatcher": stream.dispatcher, "make_scorer": make_scorer},
        num_cpus=1 if gpus else CPU_SCORER_CPUS,
        num_gpus=config.gpus_per_scorer if gpus else 0,
        **anywhere(),
    )


def _pool(config: ScoringSettings, gpus: int) -> ray.data.ActorPoolStrategy:
    """The size of the scorer pool: as set, else one scorer for each GPU or node, but no more than the work needs."""
    several = {"max_concurrent_calls_per_actor": CALLS_AT_ONCE, "enable_true_multi_threading": True}
    if config.max_scorers is not None:
        return ray.data.ActorPoolStrategy(min_size=config.scorers or 1, max_size=config.max_scorers, **several)
    size = config.scorers or int(gpus / config.gpus_per_scorer) or cpu_scorers()
    return ray.data.ActorPoolStrategy(size=size, **several)


def write_units(scored: ray.data.Dataset, run: ScoringRun) -> ray.data.Dataset:
    """A dataset of OUTCOME rows, from SCORED rows. Images are written as they arrive."""
    return scored.map_batches(
        write_parts, batch_format="pyarrow", fn_kwargs={"run": run}, **share_of_cpus(WRITING_CPUS), **anywhere()
    )


class ScoreParts:
    """The actor of the scoring pool. It loads the model once, and scores several rows at a time."""

    def __init__(self, config: ScoringSettings, dispatcher: Dispatcher, make_scorer: MakeScorer = load_scorer) -> None:
        try:
            self.scorer = make_scorer(config)
        except InputError as error:
            dispatcher.refuse(str(error))
            raise
        self.dispatcher, self.limits = dispatcher, config.read
        # Asked outside of an actor, as benchmarks do, Ray fails.
        here = ray.get_runtime_context() if ray.is_initialized() else None
        self._is_second = here is not None and here.get_actor_id() is not None and here.was_current_actor_reconstructed
        if ray.get_gpu_ids() and self.scorer.device.type == "cpu":
            from ssvq.inference.faults import why_no_gpu

            dispatcher.warn(f"warning: Ray gave a scorer a GPU, and it works on the CPU: {why_no_gpu()}")

    def __call__(self, batch: pa.Table) -> pa.Table:
        """SCORED rows of READ rows. If the GPU is lost the process ends, and Ray starts another."""
        from ssvq.inference.faults import is_lost

        try:
            return pa.concat_tables([self._scored(batch.slice(index, 1)) for index in range(len(batch))])
        except Exception as error:
            if is_lost(error):
                reason = reason_of(error, first_line=True)
                self.dispatcher.warn(f"warning: a scorer lost its GPU and is started again: {reason}")
                os._exit(1)
            raise

    def _scored(self, row: pa.Table) -> pa.Table:
        columns = {name: row[name].combine_chunks() for name in SCORED.names if name in READ.names}
        # Only a process that replaces a dead one can hold the row that killed it.
        if self._is_second:
            work = hashlib.sha256(flat(row, "parts")[0].as_buffer()).hexdigest()[:20]
            if self.dispatcher.begin(f"score {work}").is_over:
                return one_row(SCORED, _failed(columns))
        started = time.perf_counter()
        if row["files"][0].is_valid:
            scores, changes = score_files(self.scorer, row, self.limits)
            columns |= changes
        else:
            scores = self._score_pixels(row)
        if scores is None:
            return one_row(SCORED, _no_scores(columns))
        columns |= {
            "score_seconds": pa.array([time.perf_counter() - started]),
            "score": list_of(scores.score),
            "score_max": list_of(scores.score_max),
            "score_worst": list_of(scores.score_worst),
            "score_map": binary_of(scores.score_map),
            "precision": pa.array([self.scorer.precision]),
        }
        return one_row(SCORED, columns)

    def _score_pixels(self, row: pa.Table) -> "TileScores | None":
        """Scores of the tiles of a row. Masked tiles go in batches of their own, with their valid cells."""
        flat_pixels = binary(row, "pixels", np.uint8)
        if flat_pixels is None:
            return None
        size, cell = self.scorer.preprocessing.tile_size, self.scorer.preprocessing.cell
        pixels = flat_pixels.reshape(-1, size, size, 3)
        masked = np.repeat(flat(row, "masked").to_numpy(zero_copy_only=False), flat(row, "tiles").to_numpy())
        flat_cells = binary(row, "cells", np.bool_)
        cells = None if flat_cells is None else flat_cells.reshape(-1, size // cell, size // cell)
        if not masked.any():
            return self.scorer.score(pixels)
        if masked.all():
            return self.scorer.score(pixels, cells)
        both = self.scorer.score(pixels[~masked]), self.scorer.score(pixels[masked], cells)
        order = np.argsort(np.concatenate([np.flatnonzero(~masked), np.flatnonzero(masked)]))
        return type(both[0]).joined(both, order)


def _no_scores(columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """Columns of a row without tiles."""
    return columns | dict.fromkeys(SCORES, list_of(np.empty(0, np.float32)))


def _failed(columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """Columns of a row whose parts all failed. Parts that failed earlier keep their errors."""
    stages, messages = (columns[name].flatten() for name in ("error_stages", "error_messages"))
    nothing = {
        "error_stages": list_of(pc.fill_null(stages, "score")),
        "error_messages": list_of(pc.fill_null(messages, DIED)),
        "tiles": list_of(np.zeros(len(stages), np.int32)),
        "kept": list_of(np.empty(0, np.int32)),
        "valid_fraction": list_of(np.empty(0, np.float32)),
    }
    parts = {name: columns[name] for name in ("parts", "read_seconds", "decoders")}
    return _no_scores(parts | nothing)
