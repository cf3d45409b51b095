"""`ssvq export`: scores and findings for other tools. Reads no image and no model."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from ssvq import logs
from ssvq.errors import ExitCode, InputError
from ssvq.io import storage
from ssvq.progress import Progress
from ssvq.results.export.cog import encode_cog, is_heat_map
from ssvq.results.export.findings_gis import placed_findings, to_geojson, to_geopackage
from ssvq.results.export.label_tools.coco import to_coco
from ssvq.results.export.label_tools.content import annotated_images
from ssvq.results.export.label_tools.cvat import is_writable, to_cvat
from ssvq.results.export.label_tools.label_studio import to_label_studio
from ssvq.results.export.regions_geojson import find_regions, region_features
from ssvq.results.export.settings import ExportConfig
from ssvq.results.export.stac import item_id, make_item
from ssvq.results.export.tiles_csv import encode_csv, tiles_table
from ssvq.results.ground import footprint
from ssvq.scores.choose import choose_images, count, read_heat, read_tiles
from ssvq.scores.ledger_row import ImageRow
from ssvq.scores.objects import put_output

# Writes images in one format. Returns what it wrote, and lines about what it left out.
Writer = Callable[[ExportConfig, list[ImageRow]], tuple[str, list[str]]]


def export(config: ExportConfig) -> ExitCode:
    """Write the export, and print what it holds and what it leaves out.

    Raises InputError if there is nothing to write, or if it cannot be written.
    """
    choice = choose_images(config.scores, config.image, config.survey, config.model_id)
    if config.out in {image.image_uri for image in choice.images}:
        raise InputError(f"--out {config.out} is the image itself: give another file")
    writers: dict[str, Writer] = {
        "cog": _export_cogs,
        "geojson": _export_regions,
        "stac": _export_items,
        "csv": _export_tiles,
        "gpkg": _export_findings,
        "geojson-findings": _export_findings,
        "coco": _export_annotations,
        "cvat": _export_annotations,
        "label-studio": _export_annotations,
    }
    summary, left_out = writers[config.format](config, choice.images)
    print(f"{config.out}: {summary}")
    for line in [*choice.left_out, *left_out]:
        logs.warning(f"left out: {line}")
    return ExitCode.DONE


def _export_cogs(config: ExportConfig, images: list[ImageRow]) -> tuple[str, list[str]]:
    """Write heat maps: that of one image to --out, or those of all images into the folder --out, named like their
    Items.
    """
    written, empty = 0, []
    with Progress("exporting", len(images), "images") as progress:
        for image in images:
            found = read_heat(config.scores, image)
            if found is None:
                empty.append(image)
            else:
                name = config.out if config.image is not None else storage.join(config.out, f"{item_id(image)}.tif")
                put_output(name, encode_cog(found[0], image, found[1]), config.out)
                written += 1
            progress.advance(1)
    left_out = _left_out(empty, "no tile with valid pixels", "")
    if not written:
        raise InputError(left_out[0])
    return count(written, "heat map"), left_out


def _export_regions(config: ExportConfig, images: list[ImageRow]) -> tuple[str, list[str]]:
    """Write one FeatureCollection of the anomalous regions of all images that have a place on the map."""
    features: list[dict[str, Any]] = []
    unplaced = []
    with Progress("exporting", len(images), "images") as progress:
        for image in images:
            found = _regions_of(config, image)
            if found is None:
                unplaced.append(image)
            else:
                features.extend(found)
            progress.advance(1)
    # RFC 7946 allows only longitude and latitude: pixels in their place would lie in the Gulf of Guinea.
    hint = "; GeoJSON is in longitude and latitude: --format cog or csv gives it in pixels"
    left_out = _left_out(unplaced, "no place on the map", hint)
    if len(unplaced) == len(images):
        raise InputError(left_out[0])
    _put_json(config.out, {"type": "FeatureCollection", "features": features})
    square_metres = sum(feature["properties"]["area_m2"] for feature in features)
    where = count(len(images) - len(unplaced), "image")
    return f"{count(len(features), 'anomalous region')} of {where}, {square_metres:,.6g} square metres", left_out


def _regions_of(config: ExportConfig, image: ImageRow) -> list[dict[str, Any]] | None:
    """Features of the regions of an image, or None if it has no place on the map."""
    if footprint(image) is None:
        return None
    found = read_heat(config.scores, image)
    if found is None:
        return []
    heat, at_threshold = found
    threshold = at_threshold if config.threshold is None else config.threshold
    regions = find_regions(heat, image.image_width, image.image_height, threshold)
    return region_features(regions, image, threshold)


def _export_items(config: ExportConfig, images: list[ImageRow]) -> tuple[str, list[str]]:
    """Write the Item of the one image, or an ItemCollection of all images. Heat maps in the same folder become
    assets.
    """
    beside = _files_beside(config.out)
    scores = read_tiles(config.scores, images, ["score"])
    largest = scores.group_by("position").aggregate([("score", "max")])
    worst = dict(zip(*(largest[name].to_pylist() for name in ("position", "score_max")), strict=True))
    items = []
    for i, image in enumerate(images):
        names = [f"{item_id(image)}.tif"]
        if config.image is not None:
            names.insert(0, f"{storage.base_name(config.out).rsplit('.', 1)[0]}.tif")
        heat_map = next((beside[name] for name in names if name in beside and is_heat_map(beside[name], image)), None)
        items.append(make_item(config.scores, image, worst.get(i), heat_map))
    linked = sum("heat_map" in item["assets"] for item in items)
    collection = {"type": "FeatureCollection", "features": items}
    _put_json(config.out, items[0] if config.image is not None else collection)
    return f"{count(len(items), 'STAC Item')}, {linked} with a heat map beside it", []


def _export_tiles(config: ExportConfig, images: list[ImageRow]) -> tuple[str, list[str]]:
    """Write the CSV of the tiles of all images."""
    table = tiles_table(config.scores, images)
    put_output(config.out, encode_csv(table), config.out)
    return f"{count(len(table), 'tile')} of {count(len(images), 'image')}", []


def _export_findings(config: ExportConfig, images: list[ImageRow]) -> tuple[str, list[str]]:
    """Write the findings that have a place on the map, as a GeoPackage or a FeatureCollection."""
    rows, unplaced = placed_findings(config.scores, images)
    left_out = [f"{count(unplaced, 'finding')} of images without a place on the map"] if unplaced else []
    if not rows and unplaced:
        raise InputError(f"{left_out[0]}: --format coco or `ssvq query` gives them in pixels")
    if config.format == "gpkg":
        put_output(config.out, to_geopackage(rows), config.out)
    else:
        _put_json(config.out, to_geojson(rows))
    return count(len(rows), "finding"), left_out


def _export_annotations(config: ExportConfig, images: list[ImageRow]) -> tuple[str, list[str]]:
    """Write the findings of all images as annotations for a label tool, with the images by name."""
    annotated = annotated_images(config.scores, images)
    left_out = []
    if config.format == "cvat":
        unwritable = [image.row for image in annotated if not is_writable(image)]
        left_out = _left_out(unwritable, "a name that XML cannot hold", ": rename the file")
        annotated = [image for image in annotated if is_writable(image)]
        put_output(config.out, to_cvat(annotated), config.out)
    else:
        _put_json(config.out, to_coco(annotated) if config.format == "coco" else to_label_studio(annotated))
    findings = sum(len(image.findings) for image in annotated)
    return f"{count(findings, 'finding')} of {count(len(annotated), 'image')}", left_out


def _left_out(images: Sequence[ImageRow], why: str, hint: str) -> list[str]:
    """One line for images that are not in the export, or none."""
    if not images:
        return []
    first = images[0].image_uri
    what = f"{first} has" if len(images) == 1 else f"{count(len(images), 'image')} ({first}, ...) have"
    return [f"{what} {why}{hint}"]


def _files_beside(location: str) -> dict[str, str]:
    """Addresses of the objects in the folder of a location, by name."""
    folder = location.rsplit("/", 1)[0]
    filesystem, path = storage.filesystem(folder)
    try:
        names = [name.rsplit("/", 1)[-1] for name in filesystem.ls(path, detail=False)]
    except FileNotFoundError:
        return {}
    return {name: storage.join(folder, name) for name in names}


def _put_json(location: str, value: Any) -> None:
    put_output(location, json.dumps(value, ensure_ascii=False, allow_nan=False).encode(), location)
