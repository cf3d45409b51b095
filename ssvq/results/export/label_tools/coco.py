"""COCO JSON, instances: https://cocodataset.org/#format-data."""

from collections.abc import Sequence
from typing import Any

from ssvq.imagery.runs import encode_counts
from ssvq.results.export.label_tools.content import CATEGORIES, AnnotatedFinding, AnnotatedImage


def to_coco(images: Sequence[AnnotatedImage]) -> dict[str, Any]:
    """The file as JSON. A finding becomes polygons, or run lengths if it has holes, which COCO polygons cannot have."""
    numbers = {name: number for number, name in enumerate(CATEGORIES, start=1)}
    annotations: list[dict[str, Any]] = []
    for image_number, image in enumerate(images, start=1):
        for finding in image.findings:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_number,
                    "category_id": numbers[finding.category],
                    "segmentation": _segmentation(finding),
                    "area": finding.outline.area,
                    "bbox": [round(value, 3) for value in _box(finding)],
                    "iscrowd": 0,
                    "attributes": finding.attributes,
                }
            )
    return {
        "info": {"description": "Findings of ssvq"},
        "images": [
            {"id": number, "file_name": image.name, "width": image.width, "height": image.height}
            for number, image in enumerate(images, start=1)
        ],
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
        "annotations": annotations,
    }


def _segmentation(finding: AnnotatedFinding) -> list[list[float]] | dict[str, Any]:
    if finding.rings:
        return [[round(float(value), 3) for value in ring.ravel()] for ring in finding.rings]
    counts = encode_counts(finding.run_lengths(by_rows=False))
    return {"size": [finding.height, finding.width], "counts": counts}


def _box(finding: AnnotatedFinding) -> tuple[float, float, float, float]:
    left, top, right, bottom = finding.outline.bounds
    return left, top, right - left, bottom - top
