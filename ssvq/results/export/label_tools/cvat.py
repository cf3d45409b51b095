"""CVAT XML 1.1 for images: https://docs.cvat.ai/docs/dataset_management/formats/format-xml/."""

import re
from collections.abc import Sequence
from itertools import count as numbers_from
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from ssvq.imagery.runs import lengths_of
from ssvq.results.export.label_tools.content import ATTRIBUTES, CATEGORIES, AnnotatedFinding, AnnotatedImage

NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold."""


def to_cvat(images: Sequence[AnnotatedImage]) -> bytes:
    """The file. A finding becomes polygons of one group, or a mask if it has holes, which CVAT polygons cannot have."""
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    labels = SubElement(SubElement(SubElement(root, "meta"), "task"), "labels")
    for name in CATEGORIES:
        label = SubElement(labels, "label")
        SubElement(label, "name").text = name
        attributes = SubElement(label, "attributes")
        for attribute_name in ATTRIBUTES:
            attribute = SubElement(attributes, "attribute")
            for key, value in (("name", attribute_name), ("mutable", "False"), ("input_type", "text")):
                SubElement(attribute, key).text = value
    groups = numbers_from(1)
    for number, image in enumerate(images):
        size = {"width": str(image.width), "height": str(image.height)}
        element = SubElement(root, "image", {"id": str(number), "name": _plain(image.name), **size})
        for finding in image.findings:
            _add(element, finding, next(groups))
    indent(root)
    encoded: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return encoded


def is_writable(image: AnnotatedImage) -> bool:
    """Whether XML can hold the name of an image."""
    return not NOT_XML.search(image.name)


def _add(image: Element, finding: AnnotatedFinding, group: int) -> None:
    common = {"label": finding.category, "source": "auto", "occluded": "0", "z_order": "0"}
    rings = finding.rings
    if len(rings) > 1:
        common["group_id"] = str(group)
    for ring in rings:
        points = ";".join(f"{x:.2f},{y:.2f}" for x, y in ring)
        _describe(SubElement(image, "polygon", {**common, "points": points}), finding)
    if not rings:
        place = dict(zip(("left", "top", "width", "height"), map(str, finding.box), strict=True))
        runs = ", ".join(str(length) for length in lengths_of(finding.mask))
        _describe(SubElement(image, "mask", {**common, "rle": runs, **place}), finding)


def _describe(shape: Element, finding: AnnotatedFinding) -> None:
    for name, value in finding.attributes.items():
        SubElement(shape, "attribute", {"name": name}).text = _plain(str(value))


def _plain(text: str) -> str:
    return NOT_XML.sub("?", text)
