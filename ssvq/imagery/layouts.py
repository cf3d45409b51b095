"""Layouts of labelled images: images beside masks or a file of annotations, MVTec AD, or a manifest.

Each layout gives a list of images with their labels, and a list of unusable ones with reasons.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath

from ssvq import logs
from ssvq.errors import ImageError, InputError
from ssvq.imagery.annotations.files import find_annotated
from ssvq.imagery.catalog import NORMAL_LABEL, Mask, SourceImage, list_images
from ssvq.imagery.manifest import read_manifest
from ssvq.imagery.settings import LabelledImages
from ssvq.imagery.vocabulary import tell_classes

Found = tuple[list[SourceImage], list[tuple[SourceImage, ImageError]]]


def find_images(config: LabelledImages) -> Found:
    """The labelled images that the settings name, and unusable ones.

    Raises InputError, naming the setting, if a layout is not as it should be.
    """
    meaning = config.meaning
    if config.mvtec is not None:
        images, failed = _mvtec(config, config.mvtec, meaning.mask_values)
    elif config.manifest is not None:
        images, failed = read_manifest(config.manifest, meaning)
        images = [replace(image, drivers=tuple(config.drivers or ())) for image in images]
    elif config.annotations is not None:
        images, failed = find_annotated(_images(config), str(config.images), config.annotations, meaning)
    else:
        images, failed = _folders(config, meaning.mask_values)
    tell_classes(images)
    if config.group_pattern is not None:
        images = [replace(image, group=_group(image.path, config.group_pattern)) for image in images]
        _tell_groups(images, config.group_pattern)
    return images, failed


def _images(config: LabelledImages) -> list[SourceImage]:
    return list_images(str(config.images), "--images", config.drivers)


def _folders(config: LabelledImages, classes: tuple[int, ...] | None) -> Found:
    """Images in one folder and masks in another, with the same paths except for the suffix; all images are normal
    without masks.
    """
    images = _images(config)
    if config.masks is None:
        return [replace(image, label=NORMAL_LABEL) for image in images], []
    by_name: dict[str, list[SourceImage]] = {}
    for mask in list_images(config.masks, "--masks", config.drivers):
        by_name.setdefault(_stem(mask.path).lower(), []).append(mask)

    beside = config.masks == config.images  # there the other of two pictures with one name need not be a mask

    def masks_of(image: SourceImage) -> list[SourceImage]:
        names = dict.fromkeys(name.lower() for name in _mask_names(image.path)[beside:])
        return [mask for name in names for mask in by_name.get(name, []) if mask.uri != image.uri]

    if beside:  # the mask of another picture is no image
        used = {mask.uri for image in images for mask in masks_of(image)}
        images = [image for image in images if image.uri not in used]

    def expected(image: SourceImage) -> str:
        *names, last = (f"{name}.png" for name in _mask_names(image.path)[beside:])
        return f"{', '.join(names)} or {last} in {config.masks}"

    return _with_masks(images, masks_of, expected, classes)


def _mask_names(path: str) -> list[str]:
    """Names, without suffix, that the mask of an image may have: NAME, NAME_mask or NAME.jpg, ignoring case."""
    return [_stem(path), f"{_stem(path)}_mask", path]


def _mvtec(config: LabelledImages, root: str, classes: tuple[int, ...] | None) -> Found:
    """One category of MVTec AD (Bergmann et al. 2019): `train/good`, `test/DEFECT`, `ground_truth/DEFECT/*_mask.png`.

    Its own split has no anomaly in `train`, so splits are drawn from all images, as in the paper.
    """
    found = list_images(root, "--mvtec", config.drivers)
    images = [image for image in found if re.match(r"(train|validation|test)/[^/]+/", image.path)]
    in_3d = any(re.match(rf"train/{NORMAL_LABEL}/rgb/", image.path) for image in images)
    if in_3d:  # MVTec 3D AD: rgb, gt and xyz in a folder each
        masks_found = [image for image in found if re.match(r"test/[^/]+/gt/", image.path)]
        images = [image for image in images if image.path.split("/")[2] == "rgb"]
    else:
        masks_found = [image for image in found if image.path.startswith("ground_truth/")]
    masks: dict[str, list[SourceImage]] = {}
    for mask in masks_found:  # MVTec LOCO AD has a folder of masks for an image
        for name in (_stem(mask.path), str(PurePosixPath(mask.path).parent)):
            masks.setdefault(name.lower(), []).append(mask)
    if not any(image.path.startswith(f"train/{NORMAL_LABEL}/") for image in images):
        categories = {m[1] for image in found if (m := re.match(rf"([^/]+)/train/{NORMAL_LABEL}/", image.path))}
        hint = f"; give one of its categories, such as {root}/{min(categories)}" if categories else ""
        raise InputError(f"--mvtec {root} is not a category in the MVTec AD layout: no train/{NORMAL_LABEL}{hint}")
    images = [replace(image, label=image.path.split("/")[1]) for image in images]

    def mask_names(image: SourceImage) -> list[str]:
        stem = PurePosixPath(image.path).stem
        if in_3d:
            return [f"test/{image.label}/gt/{stem}"]
        return [f"ground_truth/{image.label}/{stem}_mask", f"ground_truth/{image.label}/{stem}"]

    paired, failed = _with_masks(
        [image for image in images if image.label != NORMAL_LABEL],
        lambda image: [mask for name in mask_names(image) for mask in masks.get(name.lower(), [])],
        lambda image: f"{mask_names(image)[0]}.png",
        classes,
    )
    normal = [image for image in images if image.label == NORMAL_LABEL]
    return sorted([*normal, *paired], key=lambda image: image.path), failed


def _with_masks(
    images: list[SourceImage],
    masks_of: Callable[[SourceImage], list[SourceImage]],
    expected: Callable[[SourceImage], str],
    classes: tuple[int, ...] | None,
) -> Found:
    paired: list[SourceImage] = []
    missing: list[tuple[SourceImage, ImageError]] = []
    for image in images:
        masks = masks_of(image)
        if not masks:
            missing.append((image, ImageError("mask", f"has no mask: expected {expected(image)}")))
            continue
        if len(masks) > 1:
            names = " and ".join(mask.path for mask in masks[:3])
            reason = f"has {len(masks)} masks, {names}: keep one, or join them"
            missing.append((image, ImageError("mask", reason)))
            continue
        (mask,) = masks
        # A changed mask changes the labels, so it belongs to the fingerprint.
        fingerprint = f"{image.fingerprint}+{mask.fingerprint}"
        paired.append(replace(image, fingerprint=fingerprint, mask=Mask(mask.uri, classes)))
    return paired, missing


def _tell_groups(images: list[SourceImage], pattern: str) -> None:
    """Print how many groups a pattern makes, and warn if it does not match all images."""
    groups = {image.group for image in images if image.group is not None}
    alone = [image.path for image in images if image.group is None]
    counted = f"--group-pattern {pattern!r}: {len(groups)} groups of {len(images) - len(alone)} images"
    if alone:
        unmatched = f"{len(alone)} images do not match, such as {alone[0]}"
        logs.warning(f"warning: {counted}; {unmatched}, and each is a group of its own")
    else:
        logs.info(counted)


def _group(path: str, pattern: str) -> str | None:
    match = re.search(pattern, path)
    if match is None:
        return None
    return match[1] if match.re.groups else match[0]


def _stem(path: str) -> str:
    return PurePosixPath(path).with_suffix("").as_posix()
