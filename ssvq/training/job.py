"""The training job: reads labelled images, writes a bundle."""

import json
import math
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import ssvq
from ssvq.errors import ExitCode, InputError, images_exit_code
from ssvq.imagery.grid import Tiling
from ssvq.imagery.layouts import find_images
from ssvq.imagery.manifest import manifest_csv
from ssvq.imagery.masks import tell_full_masks
from ssvq.imagery.tile_labels import add_labelled_tiles
from ssvq.io import parquet, storage
from ssvq.methods.build import method_class, method_settings
from ssvq.model import bundle as bundles
from ssvq.model.accuracy import ACCURACY
from ssvq.model.accuracy import saved as saved_accuracy
from ssvq.model.alexnet import read_alexnet
from ssvq.model.calibration import COLUMNS, calibrate_columns
from ssvq.model.card import describe, render_card
from ssvq.model.description import Backbone, Bundle
from ssvq.model.encoders import PAPER
from ssvq.model.encoders.weights import Pretrained
from ssvq.model.metrics import auroc, average_precision
from ssvq.runtime.session import MIN_LOGICAL_CPUS, ray_session
from ssvq.training.announcements import print_counts, print_failures
from ssvq.training.cut import cut_into_cache
from ssvq.training.dataset import TileSets, draw_tile_sets
from ssvq.training.defaults import check_sides, has_anomalies, resolved
from ssvq.training.held_out import HELD_OUT, accuracy_by_split, held_out_table
from ssvq.training.loop import TrainOutcome
from ssvq.training.near_duplicates import tell_near_duplicates
from ssvq.training.sampling import BatchPlan
from ssvq.training.settings import TrainConfig
from ssvq.training.splits import CALIBRATION, TEST, VALIDATION
from ssvq.training.starting_weights import keep_starting_weights, remove_starting_weights
from ssvq.training.tile_cache import tile_refs
from ssvq.training.tracking.pictures import draw_mistakes, draw_scores
from ssvq.training.tracking.tracking import Tracking, check_installed, track_training
from ssvq.training.validation import HeldOutTiles
from ssvq.training.workers import CHECKPOINTS, fit

CONFIG, MANIFEST = "config.json", "manifest.csv"
CACHE = "tile-cache"


def train(config: TrainConfig) -> ExitCode:
    """Train a model. A finished bundle of the same settings is left alone; an unfinished one is resumed.

    Raises InputError for wrong input, for an output with other settings, and for a training that diverges.
    """
    _check_output(config)
    if bundles.is_finished(config.out):
        bundle = bundles.read_description(config.out)
        print(f"{config.out} is finished (model {bundle.model_id}, {bundle.created_at:%Y-%m-%d %H:%M}): nothing to do.")
        print("To train on other images or with other settings, give another --out.")
        return ExitCode.DONE
    check_installed(config.track)
    images, unusable = find_images(config)
    if config.labels is not None:
        largest = None if config.whole_images else config.tile_size
        images, not_labelled = add_labelled_tiles(images, config.labels, largest, config.drivers)
        unusable += not_labelled
    storage.check_writable(config.out, "--out")
    if config.method == "differnet" and config.flow.alexnet is not None:
        read_alexnet(config.flow.alexnet)  # a missing or wrong file is reported before any work
    check_sides(config)
    backbone: Pretrained | None = None
    if config.architecture.encoder not in (PAPER, "auto"):
        backbone = keep_starting_weights(config.architecture, config.out)
    cache_root = config.tile_cache or storage.join(config.out, CACHE)
    tiling = Tiling(tile_size=config.tile_size, stride=config.tile_size, whole=config.whole_images)
    with ray_session(debug=config.debug, min_cpus=config.num_workers + MIN_LOGICAL_CPUS):
        folder, index = cut_into_cache(images, unusable, tiling, cache_root, config.pixel_rule, config.read)
        print_failures(index)
        cut = index.filter(pc.is_null(index["error_stage"]))
        masked = [image.path for image in images if image.mask is not None]
        tell_full_masks(cut["path"].to_pylist(), cut["anomalous_fraction"].to_numpy(), masked)
        storage.put_text(storage.join(config.out, CONFIG), json.dumps(config.saved(), indent=2) + "\n")
        given, (config, encoder) = config, resolved(config, labelled=has_anomalies(index, images, config))
        tile_sets = draw_tile_sets(index, images, config)
        print_counts(config, tile_sets)
        tell_near_duplicates(cut, tile_sets.splits, config.tile_size)
        if backbone is None and config.architecture.encoder != PAPER:
            backbone = keep_starting_weights(config.architecture, config.out)
        if "architecture" in method_class(config.method).sections:
            print(encoder, flush=True)
        storage.put_text(storage.join(config.out, MANIFEST), manifest_csv(images, tile_sets.splits))
        with track_training(
            config.track, config.out, config.saved() | {"counts": tile_sets.counts.as_dict()}
        ) as tracking:
            outcome = fit(config, task_data(config, folder, index, tile_sets), tracking)
            held_out = held_out_table(index, images, tile_sets, outcome.scores)
            parquet.put(storage.join(config.out, HELD_OUT), held_out)
            bundle = _write_bundle(given, config, tile_sets, storage.base_name(folder), outcome, backbone, held_out)
            _track_result(tracking, bundle, config.steps, held_out, folder, index, tile_sets)
    remove_starting_weights(config.out)
    storage.remove(storage.join(config.out, CHECKPOINTS))
    if config.tile_cache is None:
        storage.remove(cache_root)
    _print_result(config, bundle)
    return images_exit_code(tile_sets.counts.failed_images, allowed=config.allow_failed_images)


def _check_output(config: TrainConfig) -> None:
    """Raises InputError for an output that was begun or finished with other settings."""
    address = storage.join(config.out, CONFIG)
    try:
        earlier = json.loads(storage.read_text(address))
    except FileNotFoundError:
        if not bundles.is_finished(config.out):
            return
        earlier = bundles.read_description(config.out).training["config"]
    before, now = TrainConfig.identity(earlier), TrainConfig.identity(config.saved())
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if changed:
        raise InputError(
            f"--out {config.out} was made with other settings ({', '.join(changed)}): give another --out, "
            f"or the settings of {address}"
        )


def task_data(config: TrainConfig, folder: str, index: pa.Table, tile_sets: TileSets) -> dict[str, Any]:
    """Fields of a TrainTask: the data to train and validate on."""
    unused = method_class(config.method).anomalies == "unused"
    known = tile_sets.knows_pixels, tile_sets.label_in_mask
    anomalous = [] if unused else tile_refs(index, tile_sets.train_anomalous, *known)
    by_cell = method_class(config.method).labels_by_cell(config.objective)
    anomalous_in_batch = config.anomalous_in_batch if anomalous else 0
    plan = BatchPlan(
        cache=folder,
        normal=tile_refs(index, tile_sets.train_normal, *known),
        anomalous=anomalous,
        tile_size=config.tile_size,
        sample_size=config.sample_size,
        anomalous_fraction=config.anomalous_fraction,
        normal_limit=config.normal_limit,
        normal_in_batch=config.batch_size - anomalous_in_batch,
        anomalous_in_batch=anomalous_in_batch,
        augmentation=config.augmentation,
        seed=config.seed,
        cell=tile_sets.preprocessing.cell if by_cell else None,
    )

    return {
        "config": config,
        "plan": plan,
        **{
            split: HeldOutTiles(tile_refs(index, labelled.rows), labelled.anomalous)
            for split, labelled in tile_sets.held_out.items()
        },
        "preprocessing": tile_sets.preprocessing,
    }


def _write_bundle(
    given: TrainConfig,
    config: TrainConfig,
    tile_sets: TileSets,
    data_fingerprint: str,
    outcome: TrainOutcome,
    backbone: Pretrained | None,
    held_out_tiles: pa.Table,
) -> Bundle:
    """Write the bundle from the best weights, calibrated on tiles that did not choose them.

    `given`: the settings before defaults were resolved. `held_out_tiles`: as `held_out_table` makes it.
    """
    settings = method_settings(config)
    digest = bundles.sha256(outcome.weights)
    column = COLUMNS.index(outcome.decides)
    held_out = {
        split: (outcome.scores[split][:, column], labelled.anomalous) for split, labelled in tile_sets.held_out.items()
    }
    calibration = calibrate_columns(
        outcome.scores[CALIBRATION],
        tile_sets.held_out[CALIBRATION].anomalous,
        outcome.decides,
        config.false_positive_rate,
    )
    bundle = Bundle(
        model_id=bundles.model_id(config.method, settings, tile_sets.preprocessing, digest),
        method=config.method,
        settings=settings,
        preprocessing=tile_sets.preprocessing,
        weights_sha256=digest,
        backbone=None if backbone is None else Backbone(**backbone.described()),
        calibration=calibration,
        metrics={
            "best_step": outcome.best_step,
            **{f"{name}_auroc": auroc(*scored) for name, scored in held_out.items()},
            **{f"{name}_average_precision": average_precision(*scored) for name, scored in held_out.items()},
        },
        training={
            "config": given.saved(),
            "decided": {name: getattr(config, name) for name in ("crop", "batch_size", "steps", "validate_every")},
            "counts": tile_sets.counts.as_dict(),
            "data_fingerprint": data_fingerprint,
            ACCURACY: saved_accuracy(accuracy_by_split(held_out_tiles, calibration)),
        },
        created_at=datetime.now(UTC),
        ssvq_version=ssvq.__version__,
    )
    bundles.save_bundle(config.out, bundle, outcome.weights, render_card(bundle))
    return bundle


def _track_result(
    tracking: Tracking,
    bundle: Bundle,
    step: int,
    held_out: pa.Table,
    folder: str,
    index: pa.Table,
    tile_sets: TileSets,
) -> None:
    """Send bundle, figures and pictures to a tracker. The pictures show the held-out tiles that say most about new
    images.
    """
    split, calibration = describe(bundle).judged_by, bundle.calibration
    if split is not None:
        labelled = tile_sets.held_out[split]
        scores = held_out.filter(pc.equal(held_out["split"], split))[calibration.decides].to_numpy()
        tiles, side = tile_refs(index, labelled.rows), bundle.preprocessing.tile_size
        threshold = calibration.deciding.threshold
        tracking.picture(f"scores-{split}", lambda: draw_scores(held_out, split, calibration))
        tracking.picture(
            f"mistakes-{split}", lambda: draw_mistakes(folder, side, tiles, scores, labelled.anomalous, threshold)
        )
    figures = {"threshold": calibration.deciding.threshold, **bundle.metrics}
    tracking.bundle(bundle.model_id, step, {name: value for name, value in figures.items() if math.isfinite(value)})


def _print_result(config: TrainConfig, bundle: Bundle) -> None:
    calibration, metrics = bundle.calibration, bundle.metrics
    print(f"model {bundle.model_id} is in {config.out} (weights of step {metrics['best_step']:.0f})")
    known = [
        f"{split} {figure:.3f}"
        for split in (VALIDATION, CALIBRATION, TEST)
        if not math.isnan(figure := metrics[f"{split}_auroc"])
    ]
    if known:
        print(f"AUROC: {', '.join(known)}")
    normal, deciding = len(calibration.normal_scores), calibration.deciding
    print(
        f"threshold {deciding.threshold:.4g} of {calibration.decides} ({deciding.rule}), from {normal} normal tiles of "
        f"other images: expect {100 * deciding.false_positive_rate:.2g} % false alarms on normal tiles"
    )
