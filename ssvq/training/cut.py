"""Cuts labelled images into the tile cache, on Ray Data."""

from collections.abc import Iterator

import pyarrow as pa

from ssvq.errors import ImageError
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.grid import Tiling
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.imagery.settings import ReadLimits
from ssvq.io import storage
from ssvq.progress import Progress
from ssvq.runtime.dispatcher import Dispatcher
from ssvq.runtime.placement import anywhere
from ssvq.runtime.planning import ImageStream, units_of
from ssvq.runtime.reading import read_bundles
from ssvq.training.tile_cache import INDEX_SCHEMA, cache_key, error_row, read_index, write_index, write_parts

CUT = pa.schema([("rows", pa.list_(pa.struct(list(INDEX_SCHEMA)))), ("images", pa.float64())])
"""The result of a bundle of parts: rows of the index, and how many images it completed, in shares."""


def cut_into_cache(
    images: list[SourceImage],
    missing: list[tuple[SourceImage, ImageError]],
    tiling: Tiling,
    cache_root: str,
    rule: PixelRule,
    limits: ReadLimits,
) -> tuple[str, pa.Table]:
    """Cut the images into tiles, unless a complete cache of the same images, tiling and rule exists.

    Returns the cache's folder and its index. Failed images, `missing` ones among them, are rows of the index.
    """
    folder = storage.join(cache_root, cache_key(images, tiling, rule))
    index = read_index(folder)
    if index is None:
        index = _cut(images, tiling, rule, folder, limits)
    unusable = pa.Table.from_pylist([error_row(source, error) for source, error in missing], INDEX_SCHEMA)
    return folder, pa.concat_tables([index, unusable])


def _cut(images: list[SourceImage], tiling: Tiling, rule: PixelRule, folder: str, limits: ReadLimits) -> pa.Table:
    """Cut images into a cache. Returns its index."""
    rows: list[dict[str, object]] = []
    with ImageStream(images, in_flight=None) as stream, Progress("cutting tiles", len(images), "images") as progress:
        cut = stream.units(tiling, rule, limits).map_batches(
            _cut_units,
            batch_format="pyarrow",
            fn_kwargs={"folder": folder, "limits": limits, "dispatcher": stream.dispatcher},
            **anywhere(),
        )
        for batch in cut.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for image in batch.to_pylist():
                rows.extend(image["rows"])
                progress.advance(image["images"])
        stream.check()
    return write_index(folder, _whole_images(rows))


def _cut_units(batch: pa.Table, folder: str, limits: ReadLimits, dispatcher: Dispatcher) -> Iterator[pa.Table]:
    for unit in units_of(batch):
        for bundle in read_bundles(unit, limits, dispatcher):
            failed = [(part, error) for part, error in bundle.parts if isinstance(error, ImageError)]
            read = [(part, tiles) for part, tiles in bundle.parts if not isinstance(tiles, ImageError)]
            rows = [error_row(part.source, error) for part, error in failed]
            rows += write_parts(folder, read) if read else []
            images = sum(1 / part.count for part, _ in bundle.parts)
            yield pa.Table.from_pylist([{"rows": rows, "images": images}], CUT)
            del bundle


def _whole_images(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Rows of the index in which an image with a failed part is replaced by one row with the reason."""
    failures: dict[object, dict[str, object]] = {}
    for row in rows:
        if row.get("error_stage"):
            failures.setdefault(row["image_id"], row)
    return [row for row in rows if row["image_id"] not in failures] + list(failures.values())
