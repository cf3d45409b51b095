"""Reads a unit in a Ray task that may have been tried before."""

from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np

from ssvq.errors import ImageError
from ssvq.imagery.decoder import DecodedBundle, decoder
from ssvq.imagery.settings import ReadLimits
from ssvq.imagery.units import ImagePart
from ssvq.runtime.dispatcher import DIED, Attempt, Dispatcher
from ssvq.runtime.planning import Unit


def read_bundles(unit: Unit, limits: ReadLimits, dispatcher: Dispatcher) -> Iterator[DecodedBundle]:
    """Read a unit in bundles, as `Decoder.read_bundles`.

    Images without a readable header come first, with their errors. An image at which the task's process has died twice
    fails.
    """
    failed = [(part, error) for part, error in unit if error is not None]
    if failed:
        yield _failed(failed)
    parts = [part for part, error in unit if error is None]
    if not parts:
        return
    attempt = dispatcher.begin(f"read {parts[0].name}")
    if attempt.earlier:
        yield from _read_warily(parts, limits, attempt)
    else:
        yield from decoder(limits).read_bundles(parts)


def _read_warily(parts: list[ImagePart], limits: ReadLimits, attempt: Attempt) -> Iterator[DecodedBundle]:
    """Read image by image what an earlier attempt died of, without the images that caused it."""
    images = [list(group) for _, group in groupby(parts, key=lambda part: part.source)]
    for image in images:
        if attempt.may_try(image[0].name, len(images)):
            yield from decoder(limits).read_bundles(image)
        else:
            yield _failed((part, DIED) for part in image)


def _failed(parts: Iterable[tuple[ImagePart, ImageError]]) -> DecodedBundle:
    failed = list(parts)
    return DecodedBundle(np.empty(0, np.uint8), [*failed], [0.0] * len(failed))
