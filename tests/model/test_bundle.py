"""The bundle: whole or unfinished, never wrong without a word; and what makes a model the same model."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from ssvq.errors import InputError
from ssvq.imagery.pixel_rule import AS_STORED, PixelRule
from ssvq.io import storage
from ssvq.model import bundle as bundles
from ssvq.model.bundle import DESCRIPTION, WEIGHTS
from ssvq.model.calibration import Calibration
from ssvq.model.description import FORMAT_VERSION, Bundle, Preprocessing
from tests.support.bundles import read_whole
from tests.support.surveys import make_bundle


@pytest.fixture
def location(tmp_path: Path) -> str:
    """A finished bundle."""
    make_bundle(tmp_path / "bundle")
    return str(tmp_path / "bundle")


def change(location: str, **changes: Any) -> None:
    """Change fields of bundle.json; None takes a field away."""
    path = Path(location, DESCRIPTION)
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))


# Round trip


def test_a_bundle_comes_back(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    assert bundles.is_finished(str(tmp_path))
    assert bundles.read_description(str(tmp_path)) == bundle
    assert read_whole(str(tmp_path)) == bundle
    weights = bundles.read_weights(str(tmp_path), bundle)
    assert bundles.encode_weights(weights) == (tmp_path / WEIGHTS).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [DESCRIPTION, WEIGHTS]


def test_weights_come_back_exactly(tmp_path: Path) -> None:
    # Channels-last weights, views and halves are what a module may hold.
    weights = {
        "a": torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last),
        "b": torch.randn(6, 4).T,
        "c": torch.randn(5).half(),
        "d": torch.tensor(float("nan")),
    }
    found = safetensors.torch.load(bundles.encode_weights(weights))
    assert found.keys() == weights.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, equal_nan=True)


def test_a_figure_that_is_not_defined_comes_back_as_nan(tmp_path: Path) -> None:
    """Without an anomalous validation tile there is no AUROC, and the bundle must be readable all the same."""
    bundle = make_bundle(tmp_path).model_copy(update={"metrics": {"validation_auroc": float("nan"), "other": 0.5}})
    bundles.save_bundle(str(tmp_path), bundle, (tmp_path / WEIGHTS).read_bytes())
    assert json.loads((tmp_path / DESCRIPTION).read_text())["metrics"] == {"validation_auroc": None, "other": 0.5}
    metrics = bundles.read_description(str(tmp_path)).metrics
    assert metrics == pytest.approx({"validation_auroc": float("nan"), "other": 0.5}, nan_ok=True)


def test_the_description_is_read_by_people(location: str) -> None:
    text = Path(location, DESCRIPTION).read_text()
    assert text.count("\n") > 20
    values = json.loads(text)
    assert (values["format"], values["version"]) == ("ssvq-bundle", FORMAT_VERSION)


# Whole or unfinished


def test_a_crash_before_the_description_leaves_an_unfinished_bundle(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, weights = bundles.read_description(location), Path(location, WEIGHTS).read_bytes()
    other = str(tmp_path / "other")
    put = storage.put

    def dies_at_the_description(address: str, data: bytes) -> storage.ObjectInfo:
        if address.endswith(DESCRIPTION):
            raise KeyboardInterrupt
        return put(address, data)

    monkeypatch.setattr(storage, "put", dies_at_the_description)
    with pytest.raises(KeyboardInterrupt):
        bundles.save_bundle(other, bundle, weights)
    assert Path(other, WEIGHTS).exists()  # so the description was to come last
    assert not bundles.is_finished(other)
    with pytest.raises(InputError, match=r"other is not a finished bundle \(no bundle\.json\)"):
        bundles.read_description(other)


# Damage


@pytest.mark.parametrize("text", ["", "{", "{'version': 1}", b"\xff\xfe{}"])
def test_a_description_that_is_not_json(location: str, text: str | bytes) -> None:
    Path(location, DESCRIPTION).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"bundle/bundle\.json is not JSON"):
        bundles.read_description(location)


@pytest.mark.parametrize("version", [0, 1, 4, "3", None])
def test_another_version(location: str, version: Any) -> None:
    change(location, version=version)
    with pytest.raises(InputError, match=rf"bundle/bundle\.json has version {version}.*reads versions 2 and 3"):
        bundles.read_description(location)


def test_json_of_something_else(location: str) -> None:
    Path(location, DESCRIPTION).write_text("[1, 2]")
    with pytest.raises(InputError, match=r"bundle\.json has version None"):
        bundles.read_description(location)


@pytest.mark.parametrize("field", ["model_id", "method", "settings", "preprocessing", "calibration", "weights_sha256"])
def test_a_missing_field_is_named(location: str, field: str) -> None:
    change(location, **{field: None})
    with pytest.raises(InputError, match=rf"bundle/bundle\.json is damaged: {field}: Field required"):
        bundles.read_description(location)


def test_a_wrong_field_within_another_is_named(location: str) -> None:
    change(location, preprocessing={"tile_size": 32, "mean": [0, 0], "std": [1, 1, 1]})
    with pytest.raises(InputError, match=r"damaged: preprocessing\.mean"):
        bundles.read_description(location)


def test_missing_weights(location: str) -> None:
    Path(location, WEIGHTS).unlink()
    with pytest.raises(InputError, match=r"bundle/model\.safetensors is missing"):
        read_whole(location)


def test_weights_of_another_bundle(location: str, tmp_path: Path) -> None:
    make_bundle(tmp_path / "other", seed=1)
    (tmp_path / "other" / WEIGHTS).replace(Path(location, WEIGHTS))
    with pytest.raises(InputError, match=r"bundle/model\.safetensors does not belong to its bundle\.json"):
        read_whole(location)


def test_truncated_weights(location: str) -> None:
    data = Path(location, WEIGHTS).read_bytes()[:-100]
    Path(location, WEIGHTS).write_bytes(data)
    with pytest.raises(InputError, match=r"bundle/model\.safetensors does not belong"):
        read_whole(location)
    # The same when they were cut short before the bundle was described.
    change(location, weights_sha256=bundles.sha256(data))
    with pytest.raises(InputError, match=r"bundle/model\.safetensors cannot be read"):
        read_whole(location)


# Preprocessing


def test_the_pixel_rule_is_in_the_description(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    pixels = PixelRule(bands=(4, 3, 2), value_range=(-50, 10_000))
    ruled = bundle.model_copy(update={"preprocessing": bundle.preprocessing.model_copy(update={"pixels": pixels})})
    bundles.save_bundle(str(tmp_path), ruled, (tmp_path / WEIGHTS).read_bytes())
    assert json.loads((tmp_path / DESCRIPTION).read_text())["preprocessing"]["pixels"] == {
        "bands": [4, 3, 2],
        "value_range": [-50, 10_000],
    }
    assert bundles.read_description(str(tmp_path)).preprocessing.pixels == pixels


def test_a_bundle_from_before_the_pixel_rule_takes_pixels_as_they_are(location: str) -> None:
    preprocessing = json.loads(Path(location, DESCRIPTION).read_text())["preprocessing"]
    del preprocessing["pixels"]
    change(location, preprocessing=preprocessing)
    assert bundles.read_description(location).preprocessing.pixels == AS_STORED


# Identity


SETTINGS = {"architecture": {"hidden": 8}, "objective": {"eta": 0.5}, "codebook": {"decay": 0.99}}
PREPROCESSING = Preprocessing(tile_size=32, mean=(0.4, 0.4, 0.4), std=(0.2, 0.2, 0.2))
RULE = PixelRule(bands=(4, 3, 2), value_range=(0, 10_000))
IDENTITY = bundles.model_id("ss-vq-vae", SETTINGS, PREPROCESSING, "abc")


def test_a_model_is_its_weights_architecture_and_preprocessing() -> None:
    assert len(IDENTITY) == 16
    int(IDENTITY, 16)
    others = [
        bundles.model_id("other", SETTINGS, PREPROCESSING, "abc"),
        bundles.model_id("ss-vq-vae", SETTINGS | {"architecture": {"hidden": 16}}, PREPROCESSING, "abc"),
        bundles.model_id("ss-vq-vae", SETTINGS, PREPROCESSING.model_copy(update={"tile_size": 64}), "abc"),
        bundles.model_id("ss-vq-vae", SETTINGS, PREPROCESSING.model_copy(update={"mean": (0.5, 0.4, 0.4)}), "abc"),
        bundles.model_id("ss-vq-vae", SETTINGS, PREPROCESSING.model_copy(update={"std": (0.3, 0.2, 0.2)}), "abc"),
        bundles.model_id("ss-vq-vae", SETTINGS, PREPROCESSING.model_copy(update={"pixels": RULE}), "abc"),
        bundles.model_id("ss-vq-vae", SETTINGS, PREPROCESSING, "abd"),
    ]
    assert len({IDENTITY, *others}) == 1 + len(others)


def test_a_model_is_not_how_it_was_trained_or_calibrated() -> None:
    """A threshold that is set anew must not make every image of a survey new."""
    trained_otherwise = SETTINGS | {"objective": {"eta": 0.9}, "codebook": {"decay": 0.5}}
    assert bundles.model_id("ss-vq-vae", trained_otherwise, PREPROCESSING, "abc") == IDENTITY
    reordered = {name: SETTINGS[name] for name in reversed(SETTINGS)}
    assert bundles.model_id("ss-vq-vae", reordered, PREPROCESSING, "abc") == IDENTITY


def test_calibration_does_not_change_the_model_id(tmp_path: Path) -> None:
    first, second = make_bundle(tmp_path / "a"), make_bundle(tmp_path / "b", threshold=123.0)
    assert first.calibration != second.calibration
    assert first.model_id == second.model_id


def test_what_a_reader_asks_of_a_bundle(location: str) -> None:
    bundle: Bundle = bundles.read_description(location)
    assert isinstance(bundle.calibration, Calibration)
    assert bundle.anomalous_fraction == 0.5
