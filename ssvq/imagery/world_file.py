"""World files and projections beside rasters: `a.tfw` and `a.prj` give the position of `a.tif` if the file itself does
not.

GDAL does not look for them, since it would look for many other files too: the listing of a survey shows which exist.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from posixpath import splitext
from typing import TypeVar

import affine
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.io import DatasetReader
from rasterio.transform import Affine

from ssvq.errors import ImageError, reason_of
from ssvq.io import storage
from ssvq.io.storage import ObjectInfo

Parsed = TypeVar("Parsed")

PROJECTION = ".prj"
MOST_BYTES = 100_000  # bytes of such a file; the longest WKT has some thousands


@dataclass(frozen=True)
class Beside:
    """The addresses of a projection and, if there is one, a world file; otherwise the raster has its own transform."""

    projection: str
    world: str | None = None


def world_suffixes(suffix: str) -> tuple[str, ...]:
    """Suffixes of the world file of a raster with this suffix: `.tfw`, `.tifw` and `.wld` for `.tif`."""
    return f"{suffix[:2]}{suffix[-1]}w", f"{suffix}w", ".wld"


def with_companions(files: Iterable[ObjectInfo]) -> Iterator[tuple[ObjectInfo, list[ObjectInfo]]]:
    """Each file, in order, with the others that differ only in their suffix.

    Files come in order of their paths, in which these are near each other.
    """
    near: list[ObjectInfo] = []
    waiting: list[ObjectInfo] = []

    def is_near(file: ObjectInfo, path: str) -> bool:
        return path.startswith(f"{_stem(file.path)}.")

    def ready(path: str) -> Iterator[tuple[ObjectInfo, list[ObjectInfo]]]:
        while waiting and not is_near(waiting[0], path):
            first = waiting.pop(0)
            yield first, [other for other in near if other is not first and _stem(other.path) == _stem(first.path)]

    for file in files:
        yield from ready(file.path)
        first = waiting[0] if waiting else file
        near = [other for other in near if is_near(other, file.path) or is_near(other, first.path)]
        near.append(file)
        waiting.append(file)
    yield from ready("")


def _stem(path: str) -> str:
    return splitext(path)[0]


def find_beside(root: str, file: ObjectInfo, companions: Iterable[ObjectInfo]) -> tuple[Beside | None, str]:
    """The projection and world file among the files beside a raster, and what they add to its fingerprint."""
    by_suffix = {splitext(other.path)[1].lower(): other for other in companions}
    projection = by_suffix.get(PROJECTION)
    if projection is None:
        return None, ""
    names = world_suffixes(splitext(file.path)[1].lower())
    world = next((by_suffix[name] for name in names if name in by_suffix), None)
    used = [projection] if world is None else [projection, world]
    addresses = [storage.join(root, other.path) for other in used]
    return Beside(*addresses), "".join(f"+{other.version}" for other in used)


def read_beside(beside: Beside, dataset: DatasetReader) -> tuple[CRS, Affine] | None:
    """The CRS and transform from the files beside a raster; None without a transform.

    Raises ImageError (stage `read`), naming the file, if one cannot be read.
    """
    crs = _read(beside.projection, _parse_projection)
    transform = dataset.transform if beside.world is None else _read(beside.world, _parse_world)
    return None if transform.is_identity else (crs, transform)


def _read(address: str, parse: Callable[[str], Parsed]) -> Parsed:
    name = storage.base_name(address)
    try:
        data = storage.read_bytes(address)
        if len(data) > MOST_BYTES:
            raise ValueError(f"has {len(data)} bytes")
        return parse(data.decode("utf-8-sig"))
    except (OSError, ValueError, CRSError) as error:
        reason = reason_of(error, first_line=True)
        raise ImageError("read", f"{name} beside it cannot be read ({reason}): repair or remove it") from error


def _parse_projection(text: str) -> CRS:
    return CRS.from_wkt(text, morph_from_esri_dialect=True)


def _parse_world(text: str) -> Affine:
    """Six numbers, of which the last two are the centre of the first pixel."""
    numbers = [float(line) for line in text.split()]
    if len(numbers) != 6 or not all(map(math.isfinite, numbers)):
        raise ValueError("not six numbers")
    transform = affine.loadsw(text)
    if transform.is_degenerate:
        raise ValueError("its pixels have no size")
    return transform
