"""The model card of a bundle, in the format of the Hugging Face hub: what the model is, its data, its accuracy, and its
limits.

Everything in it follows from `bundle.json`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2

from ssvq.errors import one_line
from ssvq.io import storage
from ssvq.model.accuracy import Estimated, Split, SplitAccuracy, accuracy_of
from ssvq.model.description import Bundle

LIBRARY = "ssvq"
TAGS = ("anomaly-detection", "visual-inspection", "industrial-inspection", "image-segmentation")
FEW_TILES = 200  # normal calibration tiles: with fewer, a rate of 1 % rests on one or two of them
UNKNOWN = "unknown"  # the hub's word for an unstated licence
# Licences of timm's networks, in the hub's names. https://huggingface.co/docs/hub/repositories-licenses
LICENCES = {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"}
USES: dict[str, str] = {
    "training": "learned from",
    "validation": "chose the weights",
    "calibration": "set the thresholds",
    "test": "untouched",
}


@dataclass(frozen=True)
class DataRow:
    """Tiles of a split, and their use."""

    split: str
    use: str
    normal: int
    anomalous: int


@dataclass(frozen=True)
class Threshold:
    """A threshold of the deciding column, and its meaning."""

    value: float
    meaning: str


@dataclass(frozen=True)
class ModelCard:
    """The content of a card. The PDF report shows it too."""

    bundle: Bundle
    data: list[DataRow]
    """None for a bundle without counts."""

    accuracy: dict[Split, SplitAccuracy]
    thresholds: list[Threshold]
    licence: str
    """Licence of the weights, in the hub's names."""

    weights: list[str]
    """Origin and licence of the weights, in sentences."""

    limits: list[str]
    """Limits of the model and its figures, in sentences."""

    facts: dict[str, str]
    """How it was trained, by name."""

    @property
    def judged_by(self) -> Split | None:
        """The split that says most about new images: test, else calibration, else validation."""
        return next((split for split in ("test", "calibration", "validation") if split in self.accuracy), None)


def describe(bundle: Bundle) -> ModelCard:
    """The card of a bundle."""
    accuracy = accuracy_of(bundle)
    licence = UNKNOWN
    if bundle.backbone is not None:
        named = bundle.backbone.licence.lower()
        licence = named if named in LICENCES else "other"
    return ModelCard(
        bundle=bundle,
        data=list(_data(bundle.training.get("counts") or {})),
        accuracy=accuracy,
        thresholds=list(_thresholds(bundle)),
        licence=licence,
        weights=list(_weights(bundle)),
        limits=list(_limits(bundle, accuracy)),
        facts=_facts(bundle),
    )


def render_card(bundle: Bundle, onnx: str | None = None) -> str:
    """The card as Markdown with its YAML head. `onnx`: name of the ONNX file beside it."""
    card = describe(bundle)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"estimate": estimate, "percent": percent, "cell": _in_table}
    template = environment.from_string(resources.files("ssvq.model").joinpath("card.md").read_text(encoding="utf-8"))
    head = _head(card, [*TAGS, bundle.method, "pytorch" if onnx is None else "onnx"])
    return template.render(card=card, head=head, onnx=onnx, uses=USES) + "\n"


def estimate(figure: Estimated, digits: int = 3) -> str:
    """`0.915 (0.880 to 0.940)`; a dash if it is undefined."""
    return _estimate(figure, f".{digits}f", 1)


def percent(figure: Estimated) -> str:
    """`81.2 % (75.0 to 87.1)`; a dash if it is undefined."""
    return _estimate(figure, ".1f", 100, " %")


def _estimate(figure: Estimated, form: str, times: float, unit: str = "") -> str:
    if not figure.known:
        return "-"
    text = f"{times * figure.value:{form}}{unit}"
    if not figure.has_interval:
        return text
    return f"{text} ({times * figure.low:{form}} to {times * figure.high:{form}})"


def _in_table(text: object) -> str:
    """Text that cannot end a cell of a Markdown table."""
    return one_line(str(text)).replace("|", "\\|")


def _data(counts: dict[str, Any]) -> Iterator[DataRow]:
    if not counts:
        return
    for split, use in USES.items():
        name = "train" if split == "training" else split
        normal, anomalous = counts.get(f"{name}_normal", 0), counts.get(f"{name}_anomalous", 0)
        if normal or anomalous:
            yield DataRow(split, use, normal, anomalous)


def _thresholds(bundle: Bundle) -> Iterator[Threshold]:
    deciding = bundle.calibration.deciding
    yield Threshold(deciding.threshold, f"the model's own: {deciding.rule}")
    least = 1 / (len(deciding.normal_scores) + 1)
    for rate, value in sorted(deciding.thresholds_at_false_positive_rate.items(), key=lambda entry: float(entry[0])):
        if float(rate) < least:
            continue  # too few tiles to resolve it
        yield Threshold(value, f"at most {100 * float(rate):g} % of normal tiles are false alarms")


def _weights(bundle: Bundle) -> Iterator[str]:
    network = bundle.backbone
    if network is None:
        yield "All weights were learned from the data above; none are pretrained."
    else:
        known = network.source.startswith(("PyPI: ", "timm's hub: "))
        source = network.source if known else storage.base_name(network.source)  # a file's folders are private
        yield (
            f"The pretrained network {one_line(network.name)} is within the weights: from {one_line(source)}, licence "
            f"{one_line(network.licence)}, SHA-256 {one_line(network.sha256)}."
        )
    yield (
        "Whoever trained the model decides on the licence of what it learned. None is stated here: name one before you "
        "publish the model."
    )
    yield "The code, ssvq, is Apache-2.0."


def _limits(bundle: Bundle, accuracy: dict[Split, SplitAccuracy]) -> Iterator[str]:
    preprocessing, normal = bundle.preprocessing, len(bundle.calibration.deciding.normal_scores)
    yield "A score is a distance from what the model knows as normal. It is no probability, and no measure of risk."
    if preprocessing.whole_images:
        yield (
            f"Images are resized to {preprocessing.tile_size} x {preprocessing.tile_size} pixels: small defects of "
            "large images can vanish."
        )
    else:
        yield (
            f"Scores of tiles of {preprocessing.tile_size} pixels compare with each other alone: the thresholds do not "
            "hold for another tile size."
        )
    yield (
        "The thresholds hold for images like those of the training. Another camera, distance, light or material moves "
        "all scores: compare a new survey with the calibration first (`ssvq query SCORES --named drift`)."
    )
    yield (
        "What is rare but harmless, such as dirt, shadows or a new part, can score high. A defect that looks like a "
        "normal surface is not found."
    )
    if accuracy and "test" not in accuracy:
        yield (
            "No untouched test images stood aside: the figures are of tiles that chose the weights or set the "
            "thresholds, and are likely to be better than those on new images."
        )
    if normal < FEW_TILES:
        yield f"The thresholds rest on {normal} normal tiles: rates under {100 / (normal + 1):.2g} % cannot be told."
    yield "A person decides on each finding. Do not use the model alone where safety depends on the result."


def _facts(bundle: Bundle) -> dict[str, str]:
    config, decided = bundle.training["config"], bundle.training.get("decided") or {}
    objective = bundle.settings.get("objective", {})
    facts = {
        "Method": bundle.method,
        "Encoder": bundle.settings.get("architecture", {}).get("encoder"),
        "Steps": decided.get("steps", config.get("steps")),
        "Samples in a step": decided.get("batch_size", config.get("batch_size")),
        "Crop": decided.get("crop", config.get("crop")),
        "Weights of step": bundle.metrics.get("best_step"),
        "Labels act by": objective.get("labels"),
        "Supervision level": config.get("supervision"),
        "Seed": config.get("seed"),
        "Data fingerprint": bundle.training.get("data_fingerprint"),
        "ssvq": bundle.ssvq_version,
        "Trained": f"{bundle.created_at:%Y-%m-%d %H:%M} UTC",
    }
    shown = {name: one_line(f"{value:g}" if isinstance(value, float) else str(value)) for name, value in facts.items()}
    return {name: text for name, text in shown.items() if facts[name] is not None}


def _head(card: ModelCard, tags: list[str]) -> str:
    """The YAML head, made by the hub's own library."""
    from huggingface_hub import EvalResult, ModelCardData

    bundle = card.bundle
    name = f"ssvq-{bundle.model_id}"
    results = []
    if card.judged_by is not None:
        figures = card.accuracy[card.judged_by]
        fingerprint = one_line(str(bundle.training.get("data_fingerprint", UNKNOWN)))
        for kind, title, figure in (
            ("roc_auc", "AUROC of tiles", figures.auroc),
            ("average_precision", "Average precision of tiles", figures.average_precision),
        ):
            if figure.known:
                results.append(
                    EvalResult(
                        task_type="image-classification",
                        task_name="Anomalous tiles",
                        dataset_type="inspection-images",
                        dataset_name=f"Inspection images {fingerprint}",
                        dataset_split=card.judged_by,
                        metric_type=kind,
                        metric_name=title,
                        metric_value=round(figure.value, 4),
                    )
                )
    hub = re.fullmatch(r"timm's hub: ([\w.-]+/[\w.-]+)", bundle.backbone.source) if bundle.backbone else None
    data = ModelCardData(
        license=card.licence,
        license_name=bundle.backbone.licence if card.licence == "other" and bundle.backbone else None,
        library_name=LIBRARY,
        tags=tags,
        base_model=hub[1] if hub else None,
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=name,
        eval_results=results or None,
        model_id=bundle.model_id,
    )
    text: str = data.to_yaml()
    return text.strip()
