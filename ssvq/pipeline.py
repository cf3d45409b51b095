"""The first Ray Data stages of training, scoring and evaluation: look at headers, spread the units of work."""

import pyarrow as pa
import ray

from ssvq.config import ReadLimits
from ssvq.errors import ImageError
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.decoder import decoder
from ssvq.imagery.raster import ImageHeader
from ssvq.imagery.units import ImagePart
from ssvq.placement import anywhere

IMAGES_IN_TASK = 64
TASK_RETRIES = 2  # Ray Data's default is without end: one image that crashes its reader would loop for ever


def inspect_images(
    images: list[SourceImage], limits: ReadLimits
) -> tuple[list[tuple[SourceImage, ImageHeader]], list[tuple[SourceImage, ImageError]]]:
    """Headers of images, read by CPU tasks, in the order given; and the images that fail, with why."""
    chunks = [images[i : i + IMAGES_IN_TASK] for i in range(0, len(images), IMAGES_IN_TASK)]
    inspect_chunk = ray.remote(max_retries=TASK_RETRIES, **anywhere())(_inspect_chunk)
    headers, failed = [], []
    for chunk, results in zip(chunks, ray.get([inspect_chunk.remote(chunk, limits) for chunk in chunks]), strict=True):
        for source, result in zip(chunk, results, strict=True):
            if isinstance(result, ImageError):
                failed.append((source, result))
            else:
                headers.append((source, result))
    return headers, failed


def _inspect_chunk(images: list[SourceImage], limits: ReadLimits) -> list[ImageHeader | ImageError]:
    results: list[ImageHeader | ImageError] = []
    for source in images:
        try:
            results.append(decoder(limits).inspect(source))
        except ImageError as error:
            results.append(error)
    return results


def units_dataset(units: list[list[ImagePart]]) -> ray.data.Dataset:
    """A data set of one block a unit, so that one task reads one unit; decode rows with `unit_of`."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # ours say more
    rows = [{"unit": [part.to_json() for part in unit]} for unit in units]
    return ray.data.from_items(rows, override_num_blocks=len(rows))


def units_of(batch: pa.Table) -> list[list[ImagePart]]:
    """The units in a batch of `units_dataset`."""
    return [[ImagePart.from_json(text) for text in unit] for unit in batch["unit"].to_pylist()]
