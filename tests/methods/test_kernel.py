"""The kernel methods: what they solve, against slow references; that they learn, and come back from a bundle."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.svm import OneClassSVM
from torch import Tensor

from ssvq.config import Kernel
from ssvq.methods.kernel import ROWS_AT_ONCE, KernelMethod, OnLatents
from ssvq.methods.oc_svm import OCSVM, OCSVMHybrid, one_class
from ssvq.methods.ssad import SSAD, SSADHybrid, semi_supervised
from tests.support.methods import TINY, images

ON_PIXELS = [OCSVM, SSAD]
HYBRID = [OCSVMHybrid, SSADHybrid]
NONE = images(0)


def make(kind: type[KernelMethod], seed: int = 0, **kernel: Any) -> KernelMethod:
    torch.manual_seed(seed)
    settings = Kernel(**{"side": 4, **kernel})
    return kind(TINY, settings) if issubclass(kind, OnLatents) else kind(settings)


def tinted(n: int, seed: int, *, red: float = 0.0) -> Tensor:
    """Noise, reddened or not."""
    return images(n, seed) + torch.tensor([red, 0.0, 0.0])[:, None, None]


def fitted(kind: type[KernelMethod], **kernel: Any) -> KernelMethod:
    method = make(kind, **kernel)
    method.fit(tinted(40, 1), tinted(8, 2, red=0.5), seed=0)
    return method


def auroc(method: KernelMethod, normal: Tensor, anomalous: Tensor) -> float:
    scores = method.score(torch.cat([normal, anomalous])).score
    return float(roc_auc_score([0] * len(normal) + [1] * len(anomalous), scores))


# OC-SVM


def test_the_score_is_minus_scikit_learns_decision_function() -> None:
    method, normal, tiles = make(OCSVM, nu=0.2), tinted(40, 1), tinted(30, 3, red=0.3)
    method.fit(normal, NONE, seed=0)
    slow = OneClassSVM(nu=0.2, gamma="scale")
    pixels = [method.features(batch).double().numpy() for batch in (normal, tiles)]
    expected = -slow.fit(pixels[0]).decision_function(pixels[1])
    score = method.score(tiles)
    np.testing.assert_allclose(score.score.numpy(), expected, rtol=1e-4, atol=1e-4)
    assert score.score.dtype == torch.float32
    assert score.cells is None


def test_pixels_are_block_means() -> None:
    batch = images(2, 1)
    expected = batch.unflatten(3, (4, 4)).unflatten(2, (4, 4)).mean((3, 5)).flatten(1)
    torch.testing.assert_close(make(OCSVM).features(batch), expected)


def test_tiles_of_another_size_have_the_same_features() -> None:
    method, batch = make(OCSVM, side=8), images(2, 1)
    for times in (4, 8):
        larger = batch.repeat_interleave(times, 2).repeat_interleave(times, 3)
        torch.testing.assert_close(method.features(larger), method.features(batch))
    assert method.features(images(2, 1, side=4)).shape == (2, 3 * 8 * 8)


@pytest.mark.parametrize("kind", [OCSVM, OCSVMHybrid])
def test_oc_svm_leaves_anomalies_out(kind: type[KernelMethod]) -> None:
    alone, given = make(kind), make(kind)
    alone.fit(tinted(20, 1), NONE, seed=0)
    given.fit(tinted(20, 1), tinted(5, 2), seed=0)
    for name, tensor in alone.state_dict().items():
        assert torch.equal(given.state_dict()[name], tensor), name


# SSAD


def kernels(n: int, m: int, seed: int = 0, apart: float = 1.5) -> np.ndarray:
    """Of n points about one place, and m about another."""
    points = np.random.default_rng(seed).normal(size=(n + m, 2))
    points[n:] += apart
    return rbf_kernel(points, gamma=0.5)


def limits(n: int, m: int, nu: float, kappa: float) -> np.ndarray:
    return np.array([(1 + kappa) / (nu * n)] * n + [max(1, kappa) / (nu * m)] * m)


CASES = [(0.1, 1.0), (0.5, 0.3), (0.3, 0.0), (0.9, 4.0), (1.0, 1.0)]


@pytest.mark.parametrize(("nu", "kappa"), CASES)
def test_ssad_finds_the_least_of_the_dual(nu: float, kappa: float) -> None:
    n, m = 8, 4
    gram, bounds = kernels(n, m), limits(n, m, nu, kappa)
    labels = np.repeat([1.0, -1.0], [n, m])
    start = np.repeat([(1 + kappa) / n, kappa / m], [n, m])
    slow = minimize(
        lambda a: (a * labels) @ gram @ (a * labels) / 2,
        start,
        jac=lambda a: labels * (gram @ (a * labels)),
        method="SLSQP",
        bounds=[(0, bound) for bound in bounds],
        constraints=[
            {"type": "eq", "fun": lambda a: labels @ a - 1, "jac": lambda a: labels},
            {"type": "ineq", "fun": lambda a: a[n:].sum() - kappa, "jac": lambda a: labels < 0},
        ],
        options={"ftol": 1e-12, "maxiter": 2000},
    )
    assert slow.success
    weights, _ = semi_supervised(gram, n, nu, kappa)
    assert weights @ gram @ weights / 2 == pytest.approx(slow.fun, abs=1e-5)


@pytest.mark.parametrize(("nu", "kappa"), CASES)
def test_ssad_has_no_duality_gap(nu: float, kappa: float) -> None:
    """The primal problem at w, rho and the best margin for them, against the dual: equal only at the optimum."""
    n, m = 60, 15
    gram, bounds = kernels(n, m, 1), limits(n, m, nu, kappa)
    weights, rho = semi_supervised(gram, n, nu, kappa)
    labels = np.repeat([1.0, -1.0], [n, m])
    a = labels * weights
    assert a.min() >= 0
    assert (a <= bounds + 1e-6).all()
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    assert a[n:].sum() >= kappa - 1e-6

    projections = gram @ weights
    beyond = rho - projections[n:]
    margins = [
        -kappa * g + bounds[-1] * np.maximum(0, g - beyond).sum() for g in [0.0, *beyond[beyond > 0]]
    ]  # piecewise linear in g: the least is at a kink
    primal = weights @ gram @ weights / 2 - rho + bounds[0] * np.maximum(0, rho - projections[:n]).sum() + min(margins)
    assert primal == pytest.approx(-weights @ gram @ weights / 2, abs=1e-5)


@pytest.mark.parametrize("nu", [0.1, 0.3, 0.7])
def test_nu_bounds_the_shares_that_are_outside(nu: float) -> None:
    """Where there is a margin between the classes, which the sum over the anomalies tells."""
    n, m = 200, 40
    gram = kernels(n, m, 2, apart=4)
    weights, rho = semi_supervised(gram, n, nu, kappa=1.0)
    assert weights[n:].sum() == pytest.approx(-1, abs=1e-6)
    assert 0.5 * nu < (gram @ weights < rho - 1e-4)[:n].mean() <= nu
    assert nu <= (weights[:n] > 0).mean()
    assert np.isclose(-weights, limits(n, m, nu, 1.0)[-1], rtol=1e-3)[n:].mean() <= nu


@pytest.mark.parametrize("nu", [0.1, 0.5])
def test_without_anomalies_ssad_is_oc_svm(nu: float) -> None:
    gram = kernels(100, 0)
    (weights, rho), (published, offset) = semi_supervised(gram, 100, nu, kappa=1.0), one_class(gram, nu)
    np.testing.assert_allclose(gram @ weights, gram @ published / (nu * 100), atol=1e-3)
    assert rho == pytest.approx(offset / (nu * 100), abs=1e-3)


def test_samples_that_are_alike_are_solved() -> None:
    gram = np.ones((30, 30))
    weights, rho = semi_supervised(gram, 20, nu=0.1, kappa=1.0)
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    assert rho == pytest.approx(1, abs=1e-5)


def test_what_is_not_solved_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"SSAD was not solved for 8 normal and 4 anomalous samples \(PIQP_"):
        semi_supervised(np.full((12, 12), np.nan), 8, nu=0.1, kappa=1.0)


def test_labelled_anomalies_teach_ssad() -> None:
    """Anomalies among the normal samples cannot be told from them; those that are like labelled ones can."""
    normal, anomalous = tinted(100, 1), tinted(100, 2, red=0.15)
    without, taught = make(SSAD), make(SSAD)
    without.fit(normal, NONE, seed=0)
    taught.fit(normal, anomalous, seed=0)
    test = tinted(200, 3), tinted(200, 4, red=0.15)
    assert auroc(taught, *test) > auroc(without, *test) + 0.1


# All of them


@pytest.mark.parametrize("kind", [*ON_PIXELS, *HYBRID])
def test_what_it_is_to_a_training(kind: type[KernelMethod]) -> None:
    method = make(kind, samples=50)
    hybrid = issubclass(kind, OnLatents)
    assert method.takes_steps == hybrid
    assert bool(list(method.parameters())) == hybrid
    assert method.anomalies == ("optional" if kind in (SSAD, SSADHybrid) else "unused")
    assert method.fits_samples == 50
    assert not method.ready
    method.fit(tinted(20, 1), NONE, seed=0)
    assert method.ready


@pytest.mark.parametrize("kind", ON_PIXELS)
def test_it_learns_a_small_problem_on_pixels(kind: type[KernelMethod]) -> None:
    method = make(kind)
    method.fit(tinted(60, 1), tinted(10, 2, red=0.5), seed=0)
    assert auroc(method, tinted(60, 3), tinted(60, 4, red=0.5)) > 0.9
    with pytest.raises(NotImplementedError, match="does not learn by steps"):
        method.loss(images(2), NONE)


def test_they_learn_a_small_problem_on_latents() -> None:
    """The autoencoder under both is the same, and is trained once."""
    method, test = make(SSADHybrid), (tinted(100, 9_001), tinted(100, 9_002, red=1))
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-2)
    method.start(tinted(16, 0), seed=0, steps=120)
    before = method.loss(test[0], NONE)["loss"].item()
    for step in range(120):
        loss = method(tinted(16, step), NONE)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert method.loss(test[0], NONE)["loss"].item() < 0.97 * before  # noise: little of it fits a bottleneck
    assert all(weight.grad is not None for weight in method.parameters())
    for kind in HYBRID:
        machine = make(kind)
        machine.load_state_dict(method.state_dict())
        machine.fit(tinted(100, 8_001), tinted(20, 8_002, red=1), seed=0)
        assert auroc(machine, *test) > 0.9


@pytest.mark.parametrize("kind", HYBRID)
def test_anomalies_teach_the_autoencoder_nothing(kind: type[KernelMethod]) -> None:
    method, normal = make(kind), images(2, 1)
    assert torch.equal(method.loss(normal, images(2, 2))["loss"], method.loss(normal, NONE)["loss"])


@pytest.mark.parametrize("kind", HYBRID)
def test_latents_are_standardised_by_the_normal_samples(kind: type[KernelMethod]) -> None:
    method = fitted(kind)
    features = method.features(tinted(40, 1))
    torch.testing.assert_close(features.mean(0), torch.zeros(TINY.dimensions), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.std(0, correction=0), torch.ones(TINY.dimensions))


@pytest.mark.parametrize("kind", HYBRID)
def test_cells_that_are_not_valid_are_left_out(kind: type[KernelMethod]) -> None:
    method, batch = fitted(kind), images(2, 3)
    assert isinstance(method, OnLatents)
    valid = torch.zeros(2, 4, 4, dtype=torch.bool)
    valid[0, :2] = True
    with torch.no_grad():
        latent = method.autoencoder.encoder(batch)[0, :, :2].mean((1, 2))
        distance = ((latent - method.mean) / method.deviation - method.support).square().sum(1)
        expected = method.offset - (-method.width * distance).exp() @ method.weights
    scores = method.score(batch, valid).score
    assert scores[0].item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)
    assert torch.isnan(scores[1])


@pytest.mark.parametrize("kind", [*ON_PIXELS, *HYBRID])
def test_a_score_does_not_depend_on_the_batch(kind: type[KernelMethod]) -> None:
    method, batch = fitted(kind), images(9, 3)
    together = method.score(batch).score
    alone = torch.cat([method.score(tile[None]).score for tile in batch])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    many = batch.repeat(ROWS_AT_ONCE // len(batch) + 1, 1, 1, 1)
    scores = method.score(many).score
    torch.testing.assert_close(scores, together.repeat(len(many) // len(batch)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [*ON_PIXELS, *HYBRID])
def test_a_fresh_method_takes_what_was_saved(kind: type[KernelMethod]) -> None:
    method, tiles = fitted(kind), images(5, 3)
    again = make(kind, seed=1)
    again.load_state_dict(method.state_dict())
    assert again.ready
    assert torch.equal(again.score(tiles).score, method.score(tiles).score)
    again.load_state_dict(make(kind).state_dict())
    assert not again.ready


@pytest.mark.parametrize("kind", [*ON_PIXELS, *HYBRID])
def test_the_machine_is_in_fp32_under_autocast(kind: type[KernelMethod]) -> None:
    method, tiles = fitted(kind), images(5, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = method.score(tiles).score
    assert rough.dtype == torch.float32
    if not isinstance(method, OnLatents):
        assert torch.equal(rough, method.score(tiles).score)
