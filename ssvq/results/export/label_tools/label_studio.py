"""Label Studio JSON: https://labelstud.io/guide/task_format.

All findings of an image become one prediction, which people correct in Label Studio. Decided findings also become an
annotation.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from ssvq.imagery.annotations.brush import encode_brush
from ssvq.io import storage
from ssvq.results.export.label_tools.content import AnnotatedFinding, AnnotatedImage


def to_label_studio(images: Sequence[AnnotatedImage]) -> list[dict[str, Any]]:
    """The tasks. A finding becomes polygons, or a brush mask if it has holes."""
    return [_task(image) for image in images]


def _task(image: AnnotatedImage) -> dict[str, Any]:
    task: dict[str, Any] = {"data": {"image": _reference(image.row.image_uri)}}
    decided = [finding for finding in image.findings if finding.finding.state != "new"]
    if image.findings:
        model = image.row.model_id
        task["predictions"] = [{"model_version": model, "result": _results(image.findings)}]
    if decided:
        task["annotations"] = [{"result": _results(decided)}]
    return task


def _reference(uri: str) -> str:
    """The address under which Label Studio's cloud or local storage serves the image."""
    return uri if storage.is_remote(uri) else f"/data/local-files/?d={quote(uri.lstrip('/'))}"


def _results(findings: Sequence[AnnotatedFinding]) -> list[dict[str, Any]]:
    return [result for finding in findings for result in _results_of(finding)]


def _results_of(finding: AnnotatedFinding) -> list[dict[str, Any]]:
    size = {"original_width": finding.width, "original_height": finding.height, "image_rotation": 0}
    common = {"from_name": "label", "to_name": "image", **size, "meta": {"text": [_described(finding)]}}
    name = finding.finding.finding_id
    rings = finding.rings
    if not rings:
        value: dict[str, Any] = {"format": "rle", "rle": encode_brush(finding.run_lengths(by_rows=True))}
        return [{"id": name, "type": "brushlabels", "value": value | {"brushlabels": [finding.category]}, **common}]
    results = []
    for number, ring in enumerate(rings):
        points = [[100 * x / finding.width, 100 * y / finding.height] for x, y in ring.tolist()]
        value = {"points": points, "closed": True, "polygonlabels": [finding.category]}
        identity = name if len(rings) == 1 else f"{name}-{number}"
        results.append({"id": identity, "type": "polygonlabels", "value": value, **common})
    return results


def _described(finding: AnnotatedFinding) -> str:
    return ", ".join(f"{name} {value}" for name, value in finding.attributes.items())
