"""Labelled images as data sets lay them out: images beside masks, MVTec AD, or a manifest.

Each layout gives a list of images with what is known of their labels, and of those that cannot be used with why.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath

from ssvq.config import LabelledImages
from ssvq.errors import ImageError, InputError
from ssvq.imagery.catalog import NORMAL_LABEL, Mask, SourceImage, list_images
from ssvq.imagery.manifest import read_manifest

Found = tuple[list[SourceImage], list[tuple[SourceImage, ImageError]]]


def find_images(config: LabelledImages) -> Found:
    """The labelled images that the settings name, and those that lack what they should have.

    Raises InputError, naming the setting, where a layout is not what it should be.
    """
    classes = None if config.anomalous_classes is None else tuple(sorted(config.anomalous_classes))
    if config.mvtec is not None:
        images, failed = _mvtec(config, config.mvtec, classes)
    elif config.manifest is not None:
        images, failed = read_manifest(config.manifest, classes)
        images = [replace(image, drivers=tuple(config.drivers or ())) for image in images]
    else:
        images, failed = _folders(config, str(config.images), classes)
    if config.group_pattern is not None:
        images = [replace(image, group=_group(image.path, config.group_pattern)) for image in images]
    return images, failed


def _folders(config: LabelledImages, images_root: str, classes: tuple[int, ...] | None) -> Found:
    """Images in one folder and masks in another, with the same paths but for the suffix; all normal without masks."""
    images = list_images(images_root, "--images", config.drivers)
    if config.masks is None:
        return [replace(image, label=NORMAL_LABEL) for image in images], []
    by_stem = {_stem(mask.path): mask for mask in list_images(config.masks, "--masks", config.drivers)}
    return _with_masks(
        images,
        lambda image: by_stem.get(_stem(image.path)),
        lambda image: f"{_stem(image.path)}.png in {config.masks}",
        classes,
    )


def _mvtec(config: LabelledImages, root: str, classes: tuple[int, ...] | None) -> Found:
    """One category of MVTec AD (Bergmann et al. 2019): `train/good`, `test/DEFECT`, `ground_truth/DEFECT/*_mask.png`.

    Its own split has no anomaly in `train`, so splits are drawn from all images alike, as the paper does.
    """
    found = list_images(root, "--mvtec", config.drivers)
    images = [image for image in found if re.match(r"(train|test)/[^/]+/", image.path)]
    masks = {image.path: image for image in found if image.path.startswith("ground_truth/")}
    if not any(image.path.startswith(f"train/{NORMAL_LABEL}/") for image in images):
        categories = {m[1] for image in found if (m := re.match(rf"([^/]+)/train/{NORMAL_LABEL}/", image.path))}
        hint = f"; give one of its categories, such as {root}/{min(categories)}" if categories else ""
        raise InputError(f"--mvtec {root} is not a category in the MVTec AD layout: no train/{NORMAL_LABEL}{hint}")
    images = [replace(image, label=image.path.split("/")[1]) for image in images]

    def mask_path(image: SourceImage) -> str:
        return f"ground_truth/{image.label}/{PurePosixPath(image.path).stem}_mask.png"

    paired, failed = _with_masks(
        [image for image in images if image.label != NORMAL_LABEL],
        lambda image: masks.get(mask_path(image)),
        mask_path,
        classes,
    )
    normal = [image for image in images if image.label == NORMAL_LABEL]
    return sorted([*normal, *paired], key=lambda image: image.path), failed


def _with_masks(
    images: list[SourceImage],
    mask_of: Callable[[SourceImage], SourceImage | None],
    expected: Callable[[SourceImage], str],
    classes: tuple[int, ...] | None,
) -> Found:
    paired: list[SourceImage] = []
    missing: list[tuple[SourceImage, ImageError]] = []
    for image in images:
        mask = mask_of(image)
        if mask is None:
            missing.append((image, ImageError("mask", f"has no mask: expected {expected(image)}")))
            continue
        # A changed mask changes the labels, so it is part of what was read.
        fingerprint = f"{image.fingerprint}+{mask.fingerprint}"
        paired.append(replace(image, fingerprint=fingerprint, mask=Mask(mask.uri, classes)))
    return paired, missing


def _group(path: str, pattern: str) -> str | None:
    match = re.search(pattern, path)
    if match is None:
        return None
    return match[1] if match.re.groups else match[0]


def _stem(path: str) -> str:
    return PurePosixPath(path).with_suffix("").as_posix()
