"""Cutting labelled images into the tile cache, on Ray Data."""

import pyarrow as pa

from ssvq import storage
from ssvq.config import ReadLimits
from ssvq.errors import ImageError
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.decoder import decoder
from ssvq.imagery.grid import Tiling
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.imagery.units import plan_units
from ssvq.pipeline import TASK_RETRIES, inspect_images, units_dataset, units_of
from ssvq.placement import anywhere
from ssvq.progress import Progress
from ssvq.training.tile_cache import INDEX_SCHEMA, cache_key, error_row, read_index, write_index, write_part


def cut_into_cache(
    images: list[SourceImage],
    missing: list[tuple[SourceImage, ImageError]],
    tiling: Tiling,
    cache_root: str,
    rule: PixelRule,
    limits: ReadLimits,
) -> tuple[str, pa.Table]:
    """Cut the images into tiles unless a whole cache of the same images, tiling and rule is there.

    Returns the cache's folder and its index. Images that fail, `missing` ones among them, are rows of it.
    """
    folder = storage.join(cache_root, cache_key(images, tiling, rule))
    index = read_index(folder)
    if index is None:
        index = _cut(images, tiling, rule, folder, limits)
    unusable = pa.Table.from_pylist([error_row(source, error) for source, error in missing], INDEX_SCHEMA)
    return folder, pa.concat_tables([index, unusable])


def _cut(images: list[SourceImage], tiling: Tiling, rule: PixelRule, folder: str, limits: ReadLimits) -> pa.Table:
    """Cut images into a cache. Returns its index."""
    headers, failed = inspect_images(images, limits)
    rows = [error_row(source, error) for source, error in failed]
    units = plan_units(headers, tiling, rule)
    total = sum(len(part.block) for unit in units for part in unit)
    if units:
        cut = units_dataset(units).map_batches(
            _cut_units,
            batch_size=1,
            batch_format="pyarrow",
            fn_kwargs={"folder": folder, "limits": limits},
            max_retries=TASK_RETRIES,
            **anywhere(),
        )
        with Progress("cutting tiles", total, "tiles") as progress:
            for batch in cut.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                rows.extend(batch.to_pylist())
                progress.advance(len(batch))
    return write_index(folder, _whole_images(rows))


def _cut_units(batch: pa.Table, folder: str, limits: ReadLimits) -> pa.Table:
    rows: list[dict[str, object]] = []
    for unit in units_of(batch):
        for part, result in decoder(limits).read(unit):
            if isinstance(result, ImageError):
                rows.append(error_row(part.source, result))
            else:
                rows.extend(write_part(folder, part, result))
    return pa.Table.from_pylist(rows, INDEX_SCHEMA)


def _whole_images(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """An image of which any part failed is left out whole, with one row that says why."""
    failures: dict[object, dict[str, object]] = {}
    for row in rows:
        if row.get("error_stage"):
            failures.setdefault(row["image_id"], row)
    return [row for row in rows if row["image_id"] not in failures] + list(failures.values())
