"""DifferNet: its flow against a Jacobian, its loss and score against their equations, where its features are from."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.distributed as dist
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from ssvq.config import Flow, Pretraining
from ssvq.errors import InputError
from ssvq.methods import differnet
from ssvq.methods.differnet import DifferNet
from ssvq.model import ranks
from ssvq.model.alexnet import SOURCE, AlexNet
from ssvq.model.bundle import encode_weights
from tests.support.methods import TINY, images, patches

SIDE = 32


def make(seed: int = 0, **flow: Any) -> DifferNet:
    torch.manual_seed(seed)
    settings = {"blocks": 3, "hidden": 16, **flow}
    return DifferNet(TINY, Pretraining(share=0.3), Flow(**settings))


def scramble(method: DifferNet) -> DifferNet:
    """Weights of a flow as if it had learned: at the start it only permutes."""
    with torch.no_grad():
        for weight in method.flow.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    return method


def begun(seed: int = 0, **flow: Any) -> DifferNet:
    """A method after a pre-training of one step, if it has any."""
    method = make(seed, **flow)
    normal = images(8, 1, SIDE)
    method.start(normal, seed=0, steps=1)
    method.loss(normal, normal[:0])
    method.after_step(0, seed=0)
    assert method.ready
    return scramble(method)


def standardised(method: DifferNet, batch: Tensor) -> Tensor:
    return (method.features(batch) - method.feature_mean) / method.feature_spread


def slow_log_determinant(method: DifferNet, features: Tensor) -> float:
    jacobian = torch.autograd.functional.jacobian(lambda x: method.flow(x[None])[0][0], features)
    return float(np.linalg.slogdet(jacobian.double().numpy())[1])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The network is so small that threads only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# The flow


def flow_of_doubles() -> tuple[DifferNet, Tensor]:
    """So that rounding, which a Jacobian and an inverse both amplify, does not hide an error."""
    method = scramble(make())
    method.flow.double()
    return method, torch.randn(5, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_log_determinant_is_that_of_the_jacobian() -> None:
    method, features = flow_of_doubles()
    _, log_determinant = method.flow(features)
    slow = [slow_log_determinant(method, row) for row in features]
    assert np.abs(slow).min() > 0.1
    np.testing.assert_allclose(log_determinant.detach().numpy(), slow, rtol=1e-6)


def test_the_flow_is_invertible() -> None:
    method, features = flow_of_doubles()
    with torch.no_grad():
        z, forward = method.flow(features)
        back, backward = method.flow(z, rev=True)
    assert not torch.allclose(z, features, atol=0.1)
    torch.testing.assert_close(back, features, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(backward, -forward, rtol=1e-6, atol=1e-6)


def test_a_scale_is_bounded_by_the_clamp() -> None:
    scale = 3 * differnet.soft_clamp(torch.tensor([-1e9, -0.3, 0, 0.3, 1e9]), clamp=3)
    expected = 2 * 3 / np.pi * np.arctan(np.array([-1e9, -0.3, 0, 0.3, 1e9]) / 3)
    np.testing.assert_allclose(scale.numpy(), expected, rtol=1e-5)


def test_building_leaves_numpy_alone_and_permutes_alike_under_any_seed() -> None:
    np.random.seed(0)
    expected = np.random.rand()
    np.random.seed(0)
    orders = [[buffer for name, buffer in make(seed).flow.named_buffers() if "order" in name] for seed in (1, 2)]
    assert np.random.rand() == expected
    assert len(orders[0]) == 3
    for one, other in zip(*orders, strict=True):
        assert torch.equal(one, other)
        assert sorted(one.tolist()) == list(range(24))
    assert not torch.equal(orders[0][0], orders[0][1])


def test_flow_and_determinant_are_fp32_under_autocast() -> None:
    method, features = begun(), images(2, 1, SIDE)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        measured = method.features(features)
        found = method.latent(measured)
    with torch.no_grad():
        expected = method.latent(measured)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)


# Loss, features and score


def test_loss_is_eq_5() -> None:
    method, normal = begun(), images(3, 5, SIDE)
    terms = method.loss(normal, images(2, 6, SIDE))
    features = standardised(method, normal)
    with torch.no_grad():
        latents = method.flow(features)[0].double().numpy()
    determinants = [slow_log_determinant(method, row) for row in features]
    slow = np.mean([np.sum(z**2) / 2 - d for z, d in zip(latents, determinants, strict=True)]) / 24
    assert terms["loss"].item() == pytest.approx(slow, rel=1e-4)
    assert terms["loss"].item() == pytest.approx((terms["latent"] - terms["log_determinant"]).item(), rel=1e-4)


def test_features_are_mean_and_deviation_of_the_encoder_at_three_scales() -> None:
    method, tiles = begun(), images(2, 5, SIDE)
    expected = []
    for scale in (1, 2, 4):
        with torch.no_grad():
            latents = method.autoencoder.encoder(F.avg_pool2d(tiles, scale)).double().numpy()
        assert latents.shape[-1] == SIDE // 4 // scale
        expected += [latents.mean((2, 3)), latents.std((2, 3))]
    np.testing.assert_allclose(method.features(tiles).numpy(), np.concatenate(expected, 1), rtol=1e-3, atol=1e-5)


def test_features_are_standardised_by_the_last_batch_of_the_pretraining() -> None:
    method = begun()
    features = standardised(method, images(8, 1, SIDE))
    torch.testing.assert_close(features.mean(0), torch.zeros(24), rtol=0, atol=1e-3)
    torch.testing.assert_close(features.std(0, correction=0), torch.ones(24), rtol=1e-3, atol=0)


def test_a_feature_that_does_not_change_is_not_blown_up() -> None:
    method = begun()
    method.measure(torch.zeros(4, 3, SIDE, SIDE))
    assert torch.isfinite(standardised(method, torch.zeros(2, 3, SIDE, SIDE))).all()


def test_features_are_measured_over_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    method, mine, other = begun(), images(6, 1, SIDE), 2 * images(6, 2, SIDE)
    method.measure(torch.cat([mine, other]))
    expected = method.feature_mean.clone(), method.feature_spread.clone()
    features = method.features(other).double()
    theirs = torch.stack([features.mean(0), features.square().mean(0)])
    monkeypatch.setattr(ranks, "world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: tensor.add_(theirs))
    method.measure(mine)
    torch.testing.assert_close((method.feature_mean, method.feature_spread), expected, rtol=1e-4, atol=1e-5)


def test_score_is_the_mean_square_over_views() -> None:
    method, tiles = begun(views=8), images(2, 5, SIDE)
    score = method.score(tiles)
    assert score.cells is None
    assert score.score.dtype == torch.float32
    for tile, found in zip(tiles.numpy(), score.score, strict=True):
        views = [np.rot90(side, k, (1, 2)).copy() for side in (tile, tile[:, :, ::-1]) for k in range(4)]
        with torch.no_grad():
            latents = method.flow(standardised(method, torch.from_numpy(np.stack(views))))[0].double().numpy()
        assert found.item() == pytest.approx(np.mean(latents**2), rel=1e-3)


@pytest.mark.parametrize("views", [1, 4, 8])
def test_a_turned_tile_scores_alike_over_views(views: int) -> None:
    method, tiles = begun(views=views), images(3, 5, SIDE)
    valid = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.6
    expected = method.score(tiles, valid).score
    turned = method.score(tiles.rot90(1, (2, 3)), valid.rot90(1, (1, 2))).score
    mirrored = method.score(tiles.flip(3), valid.flip(2)).score
    assert torch.allclose(turned, expected, rtol=1e-3) == (views > 1)
    assert torch.allclose(mirrored, expected, rtol=1e-3) == (views > 4)


def test_invalid_cells_are_left_out() -> None:
    method, tiles = begun(), images(3, 5, SIDE)
    valid = torch.ones(3, 8, 8, dtype=torch.bool)
    valid[0, :, 4:] = False
    valid[2] = False
    features = method.features(tiles, valid)
    with torch.no_grad():
        latents = method.frozen(tiles)
        coarse = method.frozen(F.avg_pool2d(tiles, 4))
    torch.testing.assert_close(features[0, :4], latents[0, :, :, :4].mean((1, 2)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features[0, 16:20], coarse[0, :, :, :1].mean((1, 2)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features[1], method.features(tiles)[1], rtol=1e-4, atol=1e-5)
    assert method.score(tiles, valid).score.isnan().tolist() == [False, False, True]


def test_a_score_does_not_depend_on_the_rest_of_the_batch() -> None:
    method, tiles = begun(), images(4, 5, SIDE)
    expected = method.score(tiles).score
    others = torch.cat([tiles[:1], 9 * images(3, 6, SIDE)])
    assert method.score(others).score[0] == expected[0]
    assert torch.equal(method.score(tiles).score, expected)


def test_small_samples_are_magnified_and_tiles_by_the_same_factor() -> None:
    method = make()
    method.start(images(4, 1, 16), seed=0, steps=1)
    seen: list[int] = []
    method.frozen.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape[-1]))
    method.features(images(1, 2, 16))
    method.features(images(1, 2, 64))
    assert seen == [32, 16, 8, 128, 64, 32]


# The extractor


def train(method: DifferNet, steps: int) -> list[dict[str, float]]:
    optimiser = torch.optim.Adam(method.parameters(), lr=3e-3)
    method.start(patches(16, 0, noisy=False), seed=0, steps=steps)
    record = []
    for step in range(steps):
        terms = method(patches(16, step + 1, noisy=False), patches(0, 0, noisy=False))
        optimiser.zero_grad()
        terms["loss"].backward()
        nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimiser.step()
        method.after_step(step, seed=0)
        record.append({name: value.item() for name, value in terms.items()})
    return record


def test_it_learns_a_small_problem() -> None:
    method = make(hidden=64, blocks=4)
    record = train(method, steps=300)
    assert ["reconstruction" in terms for terms in record] == [True] * 90 + [False] * 210
    assert record[-1]["loss"] < record[90]["loss"] - 0.5
    normal, anomalous = patches(60, 9_001, noisy=False), patches(60, 9_002, noisy=True)
    scores = method.score(torch.cat([normal, anomalous])).score
    assert roc_auc_score([0] * 60 + [1] * 60, scores) > 0.9


def test_the_extractor_stays_as_the_pretraining_left_it() -> None:
    method = make()
    assert method.extractor == "autoencoder"
    assert not list(method.frozen.parameters())
    train(method, steps=3)  # of which one is the pre-training
    for name, weight in method.autoencoder.encoder.state_dict().items():
        assert torch.equal(method.frozen.state_dict()[name], weight), name
    before = {name: weight.clone() for name, weight in method.frozen.state_dict().items()}
    terms = method.loss(images(4, 1, SIDE), images(0))
    terms["loss"].backward()
    assert all(weight.grad is None or not weight.grad.any() for weight in method.autoencoder.parameters())
    assert all(weight.grad is not None for weight in method.flow.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in method.frozen.state_dict().items())


def alexnet_weights() -> dict[str, Tensor]:
    torch.manual_seed(7)
    return {**AlexNet().state_dict(), "classifier.1.bias": torch.zeros(4096)}


@pytest.fixture(scope="module", params=["weights.safetensors", "weights.pth"])
def alexnet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("alexnet") / request.param
    save(alexnet_weights(), path)
    return str(path)


def save(stored: Any, path: Path) -> None:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(stored, path)
    else:
        torch.save(stored, path)


def test_alexnet_is_read_at_the_start_and_needs_no_pretraining(alexnet: str) -> None:
    method = make(alexnet=alexnet)
    assert method.extractor == "AlexNet"
    normal = images(4, 1, SIDE)
    method.start(normal, seed=0, steps=10)
    assert method.ready
    weights = alexnet_weights()
    state = method.state_dict()
    for name in AlexNet().state_dict():
        assert torch.equal(state[f"frozen.{name}"], weights[name])
    assert not any(name.startswith("autoencoder") for name in state)
    assert all(name.startswith("flow.") for name, _ in method.named_parameters())
    assert method.magnification == 8  # to 256, 128 and 64 pixels
    terms = method.loss(normal, normal[:0])
    assert 0.4 < terms["loss"].item() < 0.501  # standardised but for channels that are dead, and not yet changed
    terms["loss"].backward()
    plain = AlexNet()
    plain.load_state_dict({name: weights[name] for name in plain.state_dict()})
    with torch.no_grad():
        large = F.interpolate(normal, scale_factor=8, mode="bilinear")
        expected = plain(large).mean((2, 3))
    torch.testing.assert_close(method.features(normal)[:, :256], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("extractor", ["autoencoder", "AlexNet"])
def test_its_state_is_all_that_a_fresh_one_needs(extractor: str, tmp_path: Path) -> None:
    path = tmp_path / "gone" / "weights.safetensors"
    flow: dict[str, Any] = {}
    if extractor == "AlexNet":
        path.parent.mkdir()
        save(alexnet_weights(), path)
        flow["alexnet"] = str(path)
    method = begun(seed=1, **flow)
    shutil.rmtree(path.parent, ignore_errors=True)
    stored = safetensors.torch.load(encode_weights(method.state_dict()))
    again = make(seed=2, **flow)
    again.load_state_dict(stored)
    assert again.ready
    assert again.extractor == extractor
    tiles = images(2, 5, SIDE)
    torch.testing.assert_close(again.score(tiles).score, method.score(tiles).score, rtol=0, atol=0)


# Files that are not AlexNet's


def error_of(path: Path) -> str:
    method = make(alexnet=str(path))  # the file is not needed yet
    with pytest.raises(InputError) as caught:
        method.start(images(2, 1, SIDE), seed=0, steps=1)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"--flow.alexnet {path} ")
    assert SOURCE in message
    return message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "is not there" in error_of(tmp_path / "none.pth")
    assert "cannot be read: Is a directory" in error_of(tmp_path)


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("run",)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("data", [b"", b"<html>\n<body>404</body>\n</html>", b"PK\x03\x04 cut off", b"\x80\x02}q\x00"])
def test_a_file_that_holds_no_weights(name: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert "is not a file of weights" in error_of(path)


@pytest.mark.parametrize("stored", [[1, 2], Evil(), nn.Linear(1, 1)], ids=["list", "code", "module"])
def test_a_file_that_holds_something_else(stored: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "weights.pth"
    save(stored, path)
    assert "is not a file of weights" in error_of(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_file_of_another_network(name: str, tmp_path: Path) -> None:
    path, weights = tmp_path / name, alexnet_weights()
    save({key: value for key, value in weights.items() if key != "features.3.bias"}, path)
    assert "has no features.3.bias;" in error_of(path)
    save({**weights, "features.0.weight": torch.zeros(96, 3, 11, 11)}, path)
    assert "the shape of features.0.weight is (96, 3, 11, 11) and not (64, 3, 11, 11)" in error_of(path)
