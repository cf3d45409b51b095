"""The model card: what the Hugging Face hub reads of it, and what a person does."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from huggingface_hub import ModelCard

from ssvq.config import Architecture
from ssvq.io import storage
from ssvq.model import bundle as bundles
from ssvq.model.accuracy import ACCURACY, accuracy_of, saved
from ssvq.model.bundle import CARD, DESCRIPTION, WEIGHTS
from ssvq.model.card import describe, estimate, percent, render_card
from ssvq.model.description import Backbone, Bundle
from ssvq.training.held_out import accuracy_by_split
from tests.support.bundles import read_whole
from tests.support.surveys import make_bundle

COUNTS = {
    "images": 40,
    "failed_images": 2,
    "tiles": 800,
    "train_normal": 300,
    "train_anomalous": 60,
    "labelled_normal": 0,
    "labelled_anomalous": 3,
    "validation_normal": 90,
    "validation_anomalous": 10,
    "calibration_normal": 80,
    "calibration_anomalous": 20,
    "test_normal": 100,
    "test_anomalous": 40,
}
NETWORK = Backbone(name="resnet18", source="timm's hub: timm/resnet18.a1_in1k", sha256="0" * 64, licence="apache-2.0")


def held_out(splits: tuple[str, ...] = ("calibration", "test"), images: int = 12) -> pa.Table:
    """Ten tiles an image, three of them anomalous; scores that overlap."""
    rng = np.random.default_rng(0)
    rows = []
    for split in splits:
        for image in range(images):
            for tile in range(10):
                score = float(rng.normal(17 if tile < 3 else 12, 3))
                place = {"split": split, "path": f"{split}-{image}.png", "group": None, "anomalous": tile < 3}
                rows.append(place | {"score": score, "score_worst": 2 * score, "redness": float(rng.normal())})
    names = {"split": pa.string(), "path": pa.string(), "group": pa.string(), "anomalous": pa.bool_()}
    numbers = dict.fromkeys(("score", "score_worst", "redness"), pa.float64())
    return pa.Table.from_pylist(rows, pa.schema(names | numbers))


def described(tmp_path: Path, *, accuracy: bool = True, **changes: Any) -> Bundle:
    bundle = make_bundle(tmp_path / "model")
    training = bundle.training | {"counts": COUNTS, "data_fingerprint": "f" * 16}
    if accuracy:
        training[ACCURACY] = saved(accuracy_by_split(held_out(), bundle.calibration))
    return bundle.model_copy(update={"training": training, **changes})


def test_the_hub_reads_the_head_of_a_card(tmp_path: Path) -> None:
    bundle = described(tmp_path, backbone=NETWORK)
    (tmp_path / CARD).write_text(render_card(bundle))
    data = ModelCard.load(tmp_path / CARD).data
    assert (data.license, data.library_name, data.base_model) == ("apache-2.0", "ssvq", "timm/resnet18.a1_in1k")
    assert {"anomaly-detection", "ss-vq-vae"} <= set(data.tags)
    assert data.to_dict()["model_id"] == bundle.model_id
    results = {result.metric_type: result for result in data.eval_results}
    assert results["roc_auc"].dataset_split == "test", "what nothing was chosen by"
    assert results["roc_auc"].metric_value == pytest.approx(accuracy_of(bundle)["test"].auroc.value, abs=1e-4)


@pytest.mark.parametrize(
    ("backbone", "licence", "name"),
    [
        (None, "unknown", None),
        (NETWORK.model_copy(update={"licence": "Apache-2.0"}), "apache-2.0", None),
        (NETWORK.model_copy(update={"licence": "that of the file"}), "other", "that of the file"),
    ],
)
def test_licences_are_those_that_the_hub_knows(
    tmp_path: Path, backbone: Backbone | None, licence: str, name: str | None
) -> None:
    text = render_card(described(tmp_path, backbone=backbone))
    head = yaml.safe_load(text.split("---")[1])
    assert (head["license"], head.get("license_name")) == (licence, name)
    assert "name one before you publish the model" in text


def test_a_person_reads_counts_accuracy_and_limits(tmp_path: Path) -> None:
    bundle = described(tmp_path)
    text = render_card(bundle)
    found = accuracy_of(bundle)["test"]
    assert (found.images, found.normal_tiles, found.anomalous_tiles) == (12, 84, 36)
    assert found.auroc.low < found.auroc.value < found.auroc.high < 1
    for said in (
        "40 labelled images gave 800 tiles; 2 more images could not be read",
        "| training | 300 | 60 | learned from |",
        "| test | 100 | 40 | untouched |",
        f"| test (untouched) | 120, 12 | {estimate(found.auroc)} |",
        f"| {percent(found.found)} | {percent(found.false_alarms)} |",
        "People labelled 0 normal and 3 anomalous tiles",
        f"| {bundle.calibration.threshold:.4g} | the model's own: 5 % false positives |",
        "at most 5 % of normal tiles are false alarms",
        "The thresholds rest on 40 normal tiles: rates under 2.4 % cannot be told.",
    ):
        assert said in text
    assert str(tmp_path) not in text, "no address of the machine that trained it"
    assert "No untouched test images" not in text


def test_figures_are_shares_of_tiles_at_the_threshold(tmp_path: Path) -> None:
    bundle, tiles = make_bundle(tmp_path / "model", threshold=15.0), held_out(("test",))
    found = accuracy_by_split(tiles, bundle.calibration)["test"]
    scores, anomalous = tiles["score"].to_numpy(), tiles["anomalous"].to_numpy()
    assert found.found.value == (scores[anomalous] >= 15).mean()
    assert found.false_alarms.value == (scores[~anomalous] >= 15).mean()
    assert found.false_alarms.low < found.false_alarms.value < found.false_alarms.high
    by_worst = bundle.calibration.model_copy(update={"decides": "score_worst"})
    assert by_worst.worst is not None
    share = (2 * scores[anomalous] >= by_worst.worst.threshold).mean()
    assert accuracy_by_split(tiles, by_worst)["test"].found.value == share


def test_tiles_of_one_image_or_one_class_have_no_interval(tmp_path: Path) -> None:
    bundle, tiles = make_bundle(tmp_path / "model"), held_out(("calibration",), images=1)
    one = accuracy_by_split(tiles, bundle.calibration)["calibration"]
    assert one.auroc.known
    assert not one.auroc.has_interval
    assert "(" not in estimate(one.auroc)
    normal = accuracy_by_split(tiles.filter(pa.compute.invert(tiles["anomalous"])), bundle.calibration)["calibration"]
    assert not normal.auroc.known
    assert (estimate(normal.auroc), percent(normal.found)) == ("-", "-")


def test_accuracy_comes_back_from_a_bundle(tmp_path: Path) -> None:
    accuracy = accuracy_by_split(held_out(("calibration",), images=1), make_bundle(tmp_path / "x").calibration)
    bundle = described(tmp_path)
    bundle = bundle.model_copy(update={"training": bundle.training | {ACCURACY: saved(accuracy)}})
    bundles.save_bundle(str(tmp_path), bundle, (tmp_path / "model" / WEIGHTS).read_bytes())
    json.loads((tmp_path / DESCRIPTION).read_text(), parse_constant=pytest.fail)
    found = accuracy_of(bundles.read_description(str(tmp_path)))["calibration"]
    assert math.isnan(found.auroc.low)
    assert found.auroc.value == accuracy["calibration"].auroc.value
    assert "No untouched test images stood aside" in render_card(bundles.read_description(str(tmp_path)))


def test_a_bundle_of_an_earlier_version_has_a_card_without_intervals(tmp_path: Path) -> None:
    figures = {"best_step": 5.0, "validation_auroc": 0.75, "test_auroc": float("nan")}
    text = render_card(described(tmp_path, accuracy=False, metrics=figures))
    assert "kept no intervals" in text
    assert "| validation auroc | 0.750 |" in text
    assert "test auroc" not in text
    bundle = make_bundle(tmp_path / "bare")
    assert "The bundle does not say what it was trained on." in render_card(bundle)
    damaged = bundle.model_copy(update={"training": bundle.training | {ACCURACY: {"test": {"auroc": 1}}}})
    assert describe(damaged).accuracy == {}


def test_names_cannot_break_a_card(tmp_path: Path) -> None:
    hostile = NETWORK.model_copy(update={"source": "/home/someone/we|rd\n---\nname: x", "licence": "a\nlicense: mit"})
    text = render_card(described(tmp_path, backbone=hostile))
    head = yaml.safe_load(text.split("\n---\n")[0])
    assert (head["license"], head["license_name"]) == ("other", "a\nlicense: mit")
    assert "/home/someone" not in text
    assert "\nname: x" not in text


def test_a_card_beside_an_onnx_file_says_how_to_run_it(tmp_path: Path) -> None:
    text = render_card(described(tmp_path), onnx="model.onnx")
    assert 'onnxruntime.InferenceSession("model.onnx")' in text
    assert "onnx" in yaml.safe_load(text.split("---")[1])["tags"]


def test_the_card_is_written_before_the_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a crash at the card leaves an unfinished bundle, which the next run finishes."""
    bundle = make_bundle(tmp_path / "model")
    weights = (tmp_path / "model" / WEIGHTS).read_bytes()
    put = storage.put

    def dies_at_the_card(address: str, data: bytes) -> storage.ObjectInfo:
        if address.endswith(CARD):
            raise OSError("no space left")
        return put(address, data)

    with monkeypatch.context() as context:
        context.setattr(storage, "put", dies_at_the_card)
        with pytest.raises(OSError, match="no space"):
            bundles.save_bundle(str(tmp_path / "out"), bundle, weights, "card")
    assert not bundles.is_finished(str(tmp_path / "out"))
    bundles.save_bundle(str(tmp_path / "out"), bundle, weights, "card")
    assert read_whole(str(tmp_path / "out")) == bundle
    (tmp_path / "out" / CARD).write_bytes(b"\xff not a card")
    assert read_whole(str(tmp_path / "out")) == bundle, "nothing reads the card"


def test_a_card_of_every_encoder(tmp_path: Path) -> None:
    for architecture in (Architecture(), Architecture(encoder="resnet18", levels=[2])):
        make_bundle(tmp_path, architecture=architecture, tile_size=64)
        assert f"| Encoder | {architecture.encoder} |" in render_card(bundles.read_description(str(tmp_path)))
