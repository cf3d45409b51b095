"""The manifest: a table of labelled images, as CSV or Parquet.

Columns: `image`; and any of `mask`, `label` (`good` and similar words mean normal; every other word is a defect),
`split` (train, validation, calibration or test; empty: drawn) and `group`.

Paths are relative to the manifest's folder, absolute, or s3:

addresses. A label without a mask holds for every tile of its image. A mask may be a file of a label tool
(`annotations.json`), followed by its name for the image (`annotations.json#photos/a.jpg`).
"""

import io
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.csv

from ssvq.errors import ImageError, InputError, reason_of
from ssvq.imagery.annotations.files import AnnotationFile, annotation_file
from ssvq.imagery.catalog import Mask, SourceImage
from ssvq.imagery.csv_files import read_csv
from ssvq.imagery.meaning import Meaning
from ssvq.imagery.vocabulary import label_of
from ssvq.io import parquet, storage
from ssvq.io.parquet import DamagedError
from ssvq.redaction import refuse_credentials

SPLITS = ("train", "validation", "calibration", "test")
COLUMNS = ("image", "mask", "label", "split", "group")
STAT_THREADS = 16  # checking an object on S3 is a round trip


def read_manifest(address: str, meaning: Meaning) -> tuple[list[SourceImage], list[tuple[SourceImage, ImageError]]]:
    """The images of a manifest, in its order, and those that are missing or have neither mask nor label.

    Raises InputError if the manifest, or an annotation file in it, cannot be used.
    """
    rows = _read_rows(address)
    folder = address.rpartition("/")[0]
    named = {storage.beside(folder, file[0]) for row in rows if (file := annotation_file(row["mask"] or ""))}
    files = {name: AnnotationFile(name, f"--manifest {address}:", meaning) for name in sorted(named)}
    pictures = any(row["mask"] and not annotation_file(row["mask"]) for row in rows)
    classes = meaning.mask_values if pictures else None

    def source(row: dict[str, str | None]) -> SourceImage | tuple[SourceImage, ImageError]:
        path = str(row["image"])
        label = label_of(row["label"], meaning.normal_labels)
        image = SourceImage(storage.beside(folder, path), path, "", 0, None, label, row["group"], row["split"])
        if row["mask"] is None and label is None:
            return image, ImageError("mask", "has neither a mask nor a label in the manifest")
        try:
            info = storage.stat(image.uri)
            fingerprint, mask = info.version, None
            if file := annotation_file(row["mask"] or ""):
                image = replace(image, fingerprint=fingerprint, size=info.size)
                return _annotated(image, files[storage.beside(folder, file[0])], file[1])
            if row["mask"] is not None:
                mask = Mask(storage.beside(folder, row["mask"]), classes)
                try:
                    fingerprint = f"{fingerprint}+{storage.stat(mask.uri).version}"
                except FileNotFoundError:
                    return image, ImageError("mask", f"has no mask: expected {mask.uri}")
        except FileNotFoundError:
            return image, ImageError("read", "is in the manifest but does not exist")
        return replace(image, fingerprint=fingerprint, size=info.size, mask=mask)

    with ThreadPoolExecutor(STAT_THREADS) as threads:
        found = list(threads.map(source, rows))
    for opened in files.values():
        opened.tell()
    return [s for s in found if isinstance(s, SourceImage)], [s for s in found if not isinstance(s, SourceImage)]


def _annotated(
    image: SourceImage, file: AnnotationFile, name: str | None
) -> SourceImage | tuple[SourceImage, ImageError]:
    """The image with the labels of an annotation file, found by its path or by the name in the manifest."""
    found = file.find(image.uri if name is None else name)
    if len(found) != 1:
        what = "is not named by" if not found else f"is named {len(found)} times by"
        return image, ImageError("mask", f"{what} {file.address}")
    try:
        return file.label(image, found[0])
    except ImageError as error:
        return image, error


def manifest_csv(images: list[SourceImage], splits: dict[str, str]) -> str:
    """A manifest of images as CSV, with the split of each by image_id. Images without a split, and windows of
    images, are left out.
    """
    rows = [
        {
            "image": image.uri,
            "mask": image.mask.uri if image.mask else None,
            "label": image.label,
            "split": splits[image.image_id],
            "group": image.group,
        }
        for image in images
        if image.image_id in splits and image.window is None
    ]
    table = pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in COLUMNS]))
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(table, buffer)
    return buffer.getvalue().decode()


def _read_rows(address: str) -> list[dict[str, str | None]]:
    """The rows with all columns of COLUMNS as text; empty cells are None."""
    name = f"--manifest {address}"
    try:
        data = storage.read_bytes(address)
        is_parquet = address.endswith(".parquet")
        table = parquet.decode(data) if is_parquet else read_csv(data, name)
    except FileNotFoundError:
        raise InputError(f"{name} is not there") from None
    except storage.StorageError as error:
        raise InputError(f"{name} cannot be read: {error}") from None
    except (DamagedError, pa.ArrowException) as error:
        raise InputError(f"{name} is neither CSV nor Parquet: {reason_of(error)}") from None
    if "image" not in table.column_names:
        raise InputError(f"{name} has no column image (it has {', '.join(table.column_names)})")
    if not {"mask", "label"} & set(table.column_names):
        raise InputError(f"{name} has neither a column mask nor a column label: which images are normal is not known")
    rows = [{column: _text(row.get(column)) for column in COLUMNS} for row in table.to_pylist()]
    _check(name, rows)
    return rows


def _check(name: str, rows: list[dict[str, str | None]]) -> None:
    if not rows:
        raise InputError(f"{name} names no image")
    for number, row in enumerate(rows, start=1):
        if row["image"] is None:
            raise InputError(f"{name}: row {number} names no image")
        try:
            for address in filter(None, (row["image"], row["mask"])):
                refuse_credentials(address)
        except ValueError as error:
            raise InputError(f"{name}: row {number}: {error}") from None
        if row["split"] is not None and row["split"] not in SPLITS:
            raise InputError(f"{name}: row {number} has split {row['split']!r}; allowed: {', '.join(SPLITS)} or empty")
    (image, times) = Counter(row["image"] for row in rows).most_common(1)[0]
    if times > 1:
        raise InputError(f"{name} names {image} {times} times")


def _text(value: Any) -> str | None:
    text = "" if value is None else str(value).strip()
    return text or None
