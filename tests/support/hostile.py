"""Image files as damage or malice leaves them, from a seed: cut short, with bits flipped, under the wrong header or
suffix, claiming absurd sizes, with broken tags, keys and EXIF, under names that are markup, SQL, shell and control
characters. Most are under 10 kB.
"""

import io
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.io import MemoryFile

HEIGHT, WIDTH = 40, 48
SCRIPT = "<script>alert(1)</script>"
NAMES = (
    SCRIPT,
    '"><img src=x onerror=alert(1)>',
    "'; DROP TABLE tiles;--",
    "' OR '1'='1",
    "$(touch pwned)`touch pwned`",
    "two\nlines",
    "carriage\rreturn",
    "\x1b[2J\x1b[31mred\x07",
    "..%2f..%2fetc%2fpasswd",
    "..\\..\\windows",
    "\u2024\u2024\u2215etc",  # one dot leaders and a division slash
    "{{ 7*7 }}{0}%s%n",
    "\u202egnp",  # right to left from here
    "=cmd|' /C calc'!A0",
    "a,b;c\td",
    "-rf --out=x",
    "*?[a-z]",
    " \u00a0\u2028 ",
    "e\u0301\U0001f480\ufeff",
    "vsicurl,http:,127.0.0.1",
    "x" * 200,
    "\x7f\x01",
)
TEXTS = (
    b"",
    b"\x00",
    b"GIF89a\x01\x00\x01\x00\x00\x00\x00;",
    b"%PDF-1.7\n",
    b"PK\x03\x04" + bytes(60),
    b"\x7fELF\x02\x01\x01" + bytes(60),
    b"BM" + bytes(60),
    f"<!DOCTYPE html><html>{SCRIPT}</html>".encode(),
    b"#!/bin/sh\ntouch pwned\n",
    b'{"type": "FeatureCollection", "features": []}',
)
# By tag of a TIFF: its type (2 text, 3 and 4 integers, 12 float64) and values that no sound file has.
TAGS: dict[int, tuple[int, Sequence[object]]] = {
    256: (4, (0, 2**31 - 1, 2**32 - 1, 100_000)),
    257: (4, (0, 2**31 - 1, 2**32 - 1, 100_000)),
    258: (3, (0, 1, 3, 12, 17, 32, 64, 65535, (8, 16, 1))),
    259: (3, (0, 2, 3, 4, 5, 6, 7, 8, 32773, 34676, 34712, 34887, 34925, 50000, 50001, 65535)),
    262: (3, (0, 3, 4, 5, 6, 8, 32803, 32844, 32845, 65535)),
    273: (4, (0, 4, 2**32 - 1, tuple(range(300)))),
    277: (3, (0, 2, 4, 5000, 65535)),
    278: (4, (0, 1, 2**32 - 1)),
    279: (4, (0, 1, 2**32 - 1)),
    284: (3, (0, 2, 9)),
    317: (3, (2, 3, 99)),
    320: (3, ((1, 2, 3),)),
    322: (4, (0, 17, 16, 2**31)),
    323: (4, (0, 17, 16, 2**31)),
    324: (4, (8, 2**32 - 1)),
    325: (4, (2**32 - 1, 1)),
    338: (3, (2, (1, 1, 1, 1), 99)),
    339: (3, (2, 3, 5, 6, 99)),
    # What is said of it.
    270: (2, (SCRIPT, "\x1b[2J", "a\nb", "x" * 9000)),
    306: (2, ("9999:99:99 99:99:99", "0000:00:00 00:00:00", SCRIPT)),
    700: (2, ("<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><x>&b;</x>",)),
    42112: (2, ("<GDALMetadata>" * 2000, f"<GDALMetadata><Item name='{SCRIPT}'>1</Item></GDALMetadata>", "\xff")),
    42113: (2, ("nan", "1e999", SCRIPT, "0x", "-" * 3000)),
    # Directories that lead to themselves, to the header and out of the file.
    330: (4, (8, 0, 2**32 - 1, (8,) * 500)),
    34665: (4, (8, 4, 2**32 - 1)),
    34853: (4, (8, 4, 2**32 - 1)),
    # Where it lies: scale, tie points, matrix, and keys of systems of coordinates that are none.
    33550: (12, ((0.0, 0.0, 0.0), (float("nan"),) * 3, (1e308,) * 3, (float("inf"), 1.0, 0.0), (1.0,))),
    33922: (12, ((0.0, 0.0, 0.0, 1e308, -1e308, 0.0), (float("nan"),) * 6, (0.0, 0.0, 0.0, 500000.0, 4e6, 0.0))),
    34264: (12, ((0.0,) * 16, (1e200,) * 16, (1.0, 2.0, 0.0, 3.0, 4.0, 5.0, 0.0, 6.0) + (0.0,) * 8)),
    34735: (
        3,
        (
            (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32633),
            (1, 1, 0, 2, 1024, 0, 1, 2, 2048, 0, 1, 65000),
            (1, 1, 0, 3, 1024, 0, 1, 1, 3072, 0, 1, 32767, 3075, 0, 1, 99),
            (1, 1, 0, 1, 1024, 0, 1, 3),
            (1, 1, 0, 60000, 1024, 34737, 60000, 60000),
            (65535,) * 12,
        ),
    ),
    34736: (12, ((float("nan"),) * 4, (1e308, -1e308))),
    34737: (2, (SCRIPT + "|", "|" * 3000)),
}


def hostile_files(number: int, seed: int) -> dict[str, bytes]:
    """So many files, by names that may lie in folders; all kinds by turns."""
    rng = random.Random(seed)
    files: dict[str, bytes] = {}
    kinds: list[Callable[[random.Random], tuple[str, bytes]]] = [
        _cut, _flipped, _flipped, _headed, _renamed, _tagged, _tagged, _claiming, _exif, _other, _looped,
    ]  # fmt: skip
    for i in range(number):
        suffix, data = kinds[i % len(kinds)](rng)
        folder = f"in{rng.choice(NAMES)}/" if rng.random() < 0.1 else ""
        name = rng.choice(NAMES) if rng.random() < 0.4 else kinds[i % len(kinds)].__name__
        files[f"{folder}{i:04}{name}{suffix}"] = data
    return files


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write them below a folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@cache
def originals() -> dict[str, tuple[str, bytes]]:
    """Sound files, small: by kind, their suffix and bytes."""
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    made = {}
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0132] = 6, SCRIPT, "2026:11:22 10:00:00"
    exif.get_ifd(0x8825).update({1: "N", 2: (46.0, 12.0, 3.5), 3: "E", 4: (8.0, 1.0, 2.0)})
    forms = [(".jpg", "JPEG", {}), (".jpeg", "JPEG", {"progressive": True}), (".png", "PNG", {})]
    for suffix, form, settings in [*forms, (".webp", "WEBP", {}), (".jp2", "JPEG2000", {})]:
        buffer = io.BytesIO()
        picture.save(buffer, form, **settings, **({} if form == "JPEG2000" else {"exif": exif}))
        made[suffix] = suffix, buffer.getvalue()
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.1, 0, 500_000, 0, -0.1, 4_000_000)}
    tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16}
    profiles = ({}, tiled | {"compress": "deflate"}, {"compress": "lzw", **place}, tiled | {"compress": "jpeg"})
    for i, profile in enumerate(profiles):
        with MemoryFile() as memory:
            size = {"width": WIDTH, "height": HEIGHT, "count": 3, "dtype": "uint8"}
            with memory.open(driver="GTiff", **size, **profile) as dataset:
                dataset.write(np.moveaxis(pixels, -1, 0))
            made[f"tiff {i}"] = ".tif", memory.read()
    return made


def tiff(changes: dict[int, tuple[int, object]], strip: bytes, *, following: int | None = None) -> bytes:
    """A little-endian TIFF of one strip, some of whose tags (type, value or values) are others; `following` is where it
    says that the next directory lies.
    """
    values: dict[int, tuple[int, object]] = {
        256: (4, WIDTH), 257: (4, HEIGHT), 258: (3, (8, 8, 8)), 259: (3, 1), 262: (3, 2), 273: (4, None), 277: (3, 3),
        278: (4, HEIGHT), 279: (4, len(strip)),
    }  # fmt: skip
    values |= changes
    after = 8 + 2 + 12 * len(values) + 4
    entries, beyond = b"", b""
    encoded: dict[int, tuple[int, int, bytes]] = {}
    for tag, (kind, value) in sorted(values.items()):
        if isinstance(value, str):
            data = value.encode("latin-1") + b"\0"
            count = len(data)
        else:
            numbers = value if isinstance(value, tuple) else (value,)
            numbers = tuple(0 if number is None else number for number in numbers)
            data, count = struct.pack(f"<{len(numbers)}{ {3: 'H', 4: 'I', 12: 'd'}[kind] }", *numbers), len(numbers)
        encoded[tag] = kind, count, data
    beyond_length = sum(len(data) + len(data) % 2 for _, _, data in encoded.values() if len(data) > 4)
    if values[273][1] is None:
        encoded[273] = 4, 1, struct.pack("<I", after + beyond_length)
    for tag, (kind, count, data) in encoded.items():
        entries += struct.pack("<HHI", tag, kind, count)
        if len(data) <= 4:
            entries += data.ljust(4, b"\0")
        else:
            entries += struct.pack("<I", after + len(beyond))
            beyond += data + bytes(len(data) % 2)
    head = b"II*\0" + struct.pack("<IH", 8, len(encoded))
    return head + entries + struct.pack("<I", following or 0) + beyond + strip


def png(width: int, height: int, rows: bytes, *, depth: int = 8, colours: int = 0, interlaced: bool = False) -> bytes:
    """A PNG with right checksums, whatever it claims; `rows` are its compressed pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _original(rng: random.Random) -> tuple[str, bytes]:
    return rng.choice(list(originals().values()))


def _cut(rng: random.Random) -> tuple[str, bytes]:
    suffix, data = _original(rng)
    return suffix, data[: rng.randrange(len(data))]


def _flipped(rng: random.Random) -> tuple[str, bytes]:
    """Bits flipped, half of them in the header."""
    suffix, data = _original(rng)
    flipped = bytearray(data)
    for _ in range(rng.choice((1, 3, 10, 40))):
        flipped[rng.randrange(min(400, len(data)) if rng.random() < 0.5 else len(data))] ^= 1 << rng.randrange(8)
    return suffix, bytes(flipped)


def _headed(rng: random.Random) -> tuple[str, bytes]:
    """The first bytes of one file before the rest of another."""
    (suffix, head), (_, rest) = _original(rng), _original(rng)
    length = rng.choice((4, 12, 40, 200))
    return suffix, head[:length] + rest[length:]


def _renamed(rng: random.Random) -> tuple[str, bytes]:
    return _original(rng)[0], _original(rng)[1]


def _tagged(rng: random.Random) -> tuple[str, bytes]:
    """A TIFF with one to four absurd tags."""
    tags = rng.sample(sorted(TAGS), rng.randint(1, 4))
    changes = {tag: (TAGS[tag][0], rng.choice(TAGS[tag][1])) for tag in tags}
    return ".tif", tiff(changes, rng.randbytes(WIDTH * HEIGHT * 3))


def _looped(rng: random.Random) -> tuple[str, bytes]:
    """Directories that follow themselves, lie in the header, beyond the end, or in a long chain."""
    if rng.random() < 0.3:
        links = range(2000)
        chain = b"".join(struct.pack("<HHHIII", 1, 256, 4, 1, 1, 8 + 18 * (link + 1)) for link in links)
        return ".tif", b"II*\0\x08\0\0\0" + chain
    return ".tif", tiff({}, bytes(WIDTH * HEIGHT * 3), following=rng.choice((8, 4, 2**32 - 1, 9)))


def _claiming(rng: random.Random) -> tuple[str, bytes]:
    """Headers of sizes that no memory holds, and pixels that take a thousand times the room of the file."""
    large = rng.choice((65_535, 2**31 - 1))
    width, height = rng.choice(((large, large), (large, 1), (1, large)))
    zeros = zlib.compress(bytes(100_000), 9)
    kind = rng.randrange(6)
    if kind == 0:
        depth, colours = rng.choice(((1, 0), (8, 0), (16, 6), (8, 3), (8, 2)))
        return ".png", png(width, height, zeros, depth=depth, colours=colours, interlaced=rng.random() < 0.5)
    if kind == 1:  # one strip, deflated, or sparse tiles that need no bytes at all
        tiles = {322: (4, 16_384), 323: (4, 16_384), 324: (4, (0,) * 49), 325: (4, (0,) * 49)}
        changes = {256: (4, width), 257: (4, height), 278: (4, height), 259: (3, 8)}
        return ".tif", tiff(changes | rng.choice(({}, tiles, {278: (4, 1)})), zeros)
    if kind == 2:
        data = bytearray(originals()[rng.choice((".jpg", ".jpeg"))][1])
        at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        data[at + 5 : at + 9] = struct.pack(">HH", min(height, 65_535), min(width, 65_535))
        return ".jpg", bytes(data)
    if kind == 3:
        data = bytearray(originals()[".jp2"][1])
        at = data.find(b"\xff\x51")  # SIZ: sizes of the image and, from 18 on, of its tiles
        data[at + 6 : at + 14] = struct.pack(">II", width, height)
        data[at + 22 : at + 30] = struct.pack(">II", *rng.choice(((1, 1), (width, height))))
        return ".jp2", bytes(data)
    if kind == 4:
        data = bytearray(originals()[".webp"][1])
        at = data.find(b"VP8 ") + 14
        data[at : at + 4] = struct.pack("<HH", 16_383, 16_383)
        return ".webp", bytes(data)
    side = rng.choice((1000, 1500))  # a picture after all: it is scored
    return ".png", png(side, side, zlib.compress(bytes((side + 1) * side), 9))


def _exif(rng: random.Random) -> tuple[str, bytes]:
    """EXIF with bytes of any value, and lengths that lie."""
    suffix, data = originals()[rng.choice((".jpg", ".webp", ".png"))]
    start = max(data.find(b"II*\0"), data.find(b"MM\0*"))
    damaged = bytearray(data)
    for _ in range(rng.choice((2, 8, 30))):
        damaged[start + rng.randrange(min(180, len(data) - start))] = rng.choice((0, 1, 255, rng.randrange(256)))
    return suffix, bytes(damaged)


def _other(rng: random.Random) -> tuple[str, bytes]:
    """What is no image, under the suffix of one; and noise under a right signature."""
    if rng.random() < 0.4:
        signature = rng.choice((b"II*\0\x08\0\0\0", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF0000WEBP"))
        return _original(rng)[0], signature + rng.randbytes(500)
    return _original(rng)[0], rng.choice(TEXTS)
