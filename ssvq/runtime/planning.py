"""The first Ray Data stages of training, scoring and evaluation: images are handed out, their headers are read, and
units of work are planned, while the first units are read and images are still being listed.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from types import TracebackType

import pyarrow as pa
import ray
from pydantic import TypeAdapter
from ray.exceptions import RayError

from ssvq import logs
from ssvq.errors import ImageError, InputError
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.decoder import decoder
from ssvq.imagery.grid import Tiling
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.imagery.raster import ImageHeader
from ssvq.imagery.settings import ReadLimits
from ssvq.imagery.units import ImagePart, headless_part, plan_units
from ssvq.runtime.dispatcher import DIED, Attempt, Dispatcher
from ssvq.runtime.placement import anywhere, block_bytes, planners

IMAGES_IN_CHUNK = 64
UNITS_IN_CHUNK = 16
LEAST_IN_UNIT = 32 * 512**2  # pixels: a task of Ray takes some 10 ms, whatever it reads
IMAGES_IN_FLIGHT = 8192  # handed out and not ended: the memory of the job does not grow with the survey
SECONDS_BETWEEN_WARNINGS = 5.0
PLANNING_CPUS = 0.05  # of a planner: headers wait for storage
# Ray Data grants each of the four stages a fourth of what it takes for its limit, and only reading fills blocks.
LIMIT_OF_STORE = 2.0

_IMAGES = TypeAdapter(list[SourceImage])
ERROR = pa.struct([("stage", pa.string()), ("message", pa.string())])
UNIT = pa.schema([("parts", pa.list_(pa.string())), ("errors", pa.list_(ERROR))])
"""A unit of work: its parts as JSON, and for each the error of an image whose header cannot be read, or null."""

Unit = list[tuple[ImagePart, ImageError | None]]


class ImageStream:
    """Hands the images of an iterator out to Ray Data, as they come. Use as a context manager around the execution.

    `in_flight`: how many images may be handed out before others have ended; None: all, for jobs that do not tell.
    """

    def __init__(self, images: Iterable[SourceImage], *, in_flight: int | None = IMAGES_IN_FLIGHT) -> None:
        self._images = iter(images)
        self._in_flight = in_flight
        self.handed_out, self._ended = 0, 0.0
        self._more = threading.Condition()
        self._stopped = False
        self._failure: BaseException | None = None
        self._warned: set[str] = set()
        self._asked = time.monotonic()
        self._dispatcher: Dispatcher | None = None
        self._thread = threading.Thread(target=self._hand_out, name="images", daemon=True)

    @property
    def dispatcher(self) -> Dispatcher:
        """The actor behind it. Raises RuntimeError outside of the context."""
        if self._dispatcher is None:
            raise RuntimeError("the images are not being handed out")
        return self._dispatcher

    def __enter__(self) -> "ImageStream":
        self._dispatcher = Dispatcher()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Raises InputError in place of what Ray says, where a process on a node found that something is wrong."""
        with self._more:
            self._stopped = True
            self._more.notify_all()
        refusal = None
        with suppress(RayError):
            refusal = self.dispatcher.refusal() if isinstance(error, Exception) else None
        self.dispatcher.close()
        self._thread.join()
        if refusal is not None:
            raise InputError(refusal) from error

    def units(self, tiling: Tiling, rule: PixelRule, limits: ReadLimits) -> ray.data.Dataset:
        """A data set of units, a row each (schema UNIT). Each row of it and of what is made of it is a block of its
        own, so that it goes on as soon as it is there.
        """
        context = ray.data.DataContext.get_current().copy()
        context.enable_progress_bars = False  # ours say more
        context.target_max_block_size = 1
        context.memory_usage_poll_interval_s = None  # it walks all pages of each process, time and again
        context.override_object_store_memory_limit_fraction = LIMIT_OF_STORE
        with ray.data.DataContext.current(context):
            start = ray.data.from_items(
                [{"planner": number} for number in range(planners())], override_num_blocks=planners()
            )
        return start.map_batches(
            plan_units_of_chunks,
            batch_format="pyarrow",
            fn_kwargs={
                "dispatcher": self.dispatcher,
                "tiling": tiling,
                "rule": rule,
                "limits": limits,
                "block_bytes": block_bytes(),
            },
            num_cpus=PLANNING_CPUS,
            compute=ray.data.TaskPoolStrategy(size=planners()),
            **anywhere(),
        )

    def end(self, images: float) -> None:
        """Note that so many more images, or shares of them, have ended."""
        with self._more:
            self._ended += images
            self._more.notify_all()
        if time.monotonic() - self._asked > SECONDS_BETWEEN_WARNINGS:
            self._tell_warnings()

    @property
    def missing(self) -> int:
        """Images that were handed out and have not ended."""
        return round(self.handed_out - self._ended)

    def check(self) -> None:
        """Tell the last warnings of the nodes. Raise what the iterator of images raised, if it did: the images that it
        still had were not handed out.
        """
        self._tell_warnings()
        if self._failure is not None:
            raise self._failure

    def _tell_warnings(self) -> None:
        for text in self.dispatcher.warnings():
            if text not in self._warned:
                self._warned.add(text)
                logs.warning(text)
        self._asked = time.monotonic()

    def _hand_out(self) -> None:
        try:
            while chunk := list(islice(self._images, IMAGES_IN_CHUNK)):
                self._wait_for_room()
                self.handed_out += len(chunk)
                self.dispatcher.put(_IMAGES.dump_json(chunk).decode())
            self.dispatcher.put(None)
        except BaseException as failure:  # noqa: BLE001 - it is raised by `check`, in the thread that can tell of it
            if not self._stopped:
                self._failure = failure
                with suppress(RayError):
                    self.dispatcher.put(None)

    def _wait_for_room(self) -> None:
        with self._more:
            self._more.wait_for(
                lambda: (
                    self._stopped or self._in_flight is None or self.handed_out - self._ended + 0.5 < self._in_flight
                )
            )


def plan_units_of_chunks(
    batch: pa.Table,
    dispatcher: Dispatcher,
    tiling: Tiling,
    rule: PixelRule,
    limits: ReadLimits,
    block_bytes: int,
) -> Iterator[pa.Table]:
    """UNIT rows of all chunks of images that a planner gets, as it gets them."""
    (planner,) = batch["planner"].to_pylist()
    for chunk, attempt in dispatcher.chunks(planner):
        headers, failed = _inspect_images(_IMAGES.validate_json(chunk), limits, attempt)
        for text in _notes([header for _, header in headers], rule):
            dispatcher.warn(text)
        if failed:
            yield _unit_row([(headless_part(source, tiling), error) for source, error in failed])
        pixels = _unit_pixels(headers, block_bytes, limits.part_pixels)
        for unit in plan_units(headers, tiling, rule, pixels, limits.part_pixels):
            yield _unit_row([(part, None) for part in unit])


def _notes(headers: list[ImageHeader], rule: PixelRule) -> Iterator[str]:
    """What a person may not expect of how images are read; the same text for all images of a kind."""
    if any(header.pages > 1 for header in headers):
        yield "warning: of TIFFs with several pages only the first page is read: split such files to have them all"
    if rule.bands is None:
        named = {header.named_bands for header in headers} - {None, (1, 2, 3)}
        for bands in sorted(", ".join(map(str, bands)) for bands in named if bands):
            yield f"note: red, green and blue are the bands {bands}, since these are named so"


def _unit_pixels(headers: list[tuple[SourceImage, ImageHeader]], block_bytes: int, part_pixels: int) -> int:
    """Pixels in a unit: a share of the chunk's, so that a small survey is read by several tasks, but as many as a task
    is worth (or as a part has, where parts are small), and as a block holds.
    """
    pixels = sum(header.width * header.height for _, header in headers)
    return min(max(pixels // UNITS_IN_CHUNK, min(LEAST_IN_UNIT, part_pixels)), block_bytes // 3)


def _inspect_images(
    images: list[SourceImage], limits: ReadLimits, attempt: Attempt
) -> tuple[list[tuple[SourceImage, ImageHeader]], list[tuple[SourceImage, ImageError]]]:
    """Headers of images, in the order given; and the images that fail, with why."""
    headers, failed = [], []
    for source in images:
        if not attempt.may_try(source.image_id, len(images)):
            failed.append((source, DIED))
            continue
        try:
            headers.append((source, decoder(limits).inspect(source)))
        except ImageError as error:
            failed.append((source, error))
    return headers, failed


def _unit_row(unit: Unit) -> pa.Table:
    errors = [None if error is None else {"stage": error.stage, "message": error.message} for _, error in unit]
    return pa.table({"parts": [[part.to_json() for part, _ in unit]], "errors": [errors]}, UNIT)


def units_of(batch: pa.Table) -> list[Unit]:
    """The units in a batch of UNIT rows."""
    return [
        [
            (ImagePart.from_json(text), None if error is None else ImageError(error["stage"], error["message"]))
            for text, error in zip(row["parts"], row["errors"], strict=True)
        ]
        for row in batch.to_pylist()
    ]
