"""Deep SVDD and Deep SAD against their equations, written out with loops; the pre-training and what it hands over."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ssvq.config import Hypersphere, Pretraining
from ssvq.methods.deep_sad import LEAST_DISTANCE, DeepSAD
from ssvq.methods.deep_svdd import LEAST_COORDINATE, DeepSVDD
from tests.support.methods import TINY, images, patches

NONE = torch.empty(0, 3, 32, 32)


def make(kind: type[DeepSVDD], share: float = 0.2, seed: int = 0, **hypersphere: float) -> DeepSVDD:
    torch.manual_seed(seed)
    return kind(TINY, Pretraining(share=share), Hypersphere(**hypersphere))


def train(method: DeepSVDD, steps: int, *, labelled: bool) -> None:
    optimiser = torch.optim.Adam(method.parameters(), lr=3e-3)
    method.start(patches(32, 77, noisy=False), 0, steps)
    for step in range(steps):
        anomalous = patches(16, 2 * step + 1, noisy=True) if labelled else NONE
        loss = method(patches(16, 2 * step, noisy=False), anomalous)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        method.after_step(step, 0)


def slow_distances(method: DeepSVDD, batch: Tensor) -> list[float]:
    """Squared distance of the mean latent of each sample from the centre."""
    with torch.no_grad():
        latents = method.autoencoder.encoder(batch).double().numpy()
    centre = method.centre.double().numpy()
    return [sum((sample[d].mean() - centre[d]) ** 2 for d in range(len(centre))) for sample in latents]


def slow_decay(method: DeepSVDD) -> float:
    weights = [weight.detach().double().numpy() for weight in method.autoencoder.encoder.parameters()]
    return method.hypersphere.weight_decay / 2 * sum(float((weight**2).sum()) for weight in weights)


def test_deep_svdd_is_eq_4() -> None:
    method, normal = make(DeepSVDD, weight_decay=0.01), images(3, 1)
    method.begin(torch.linspace(-1, 1, TINY.dimensions))
    terms = method.loss(normal, images(2, 2))
    assert terms["loss"].item() == pytest.approx(np.mean(slow_distances(method, normal)) + slow_decay(method), rel=1e-5)
    np.testing.assert_allclose(method.score(normal).score, np.sqrt(slow_distances(method, normal)), rtol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 1.0, 3.0])
def test_deep_sad_is_eq_7(eta: float) -> None:
    method, normal, anomalous = make(DeepSAD, eta=eta, weight_decay=0.01), images(3, 1), images(2, 2)
    method.begin(torch.linspace(-1, 1, TINY.dimensions))
    near, far = slow_distances(method, normal), slow_distances(method, anomalous)
    expected = (sum(near) + eta * sum(1 / (d + LEAST_DISTANCE) for d in far)) / 5 + slow_decay(method)
    assert method.loss(normal, anomalous)["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_deep_sad_without_anomalies_is_deep_svdd() -> None:
    sad, svdd = make(DeepSAD), make(DeepSVDD)
    for method in (sad, svdd):
        method.begin(torch.ones(TINY.dimensions))
    batch, none = images(4), images(0)
    assert sad.loss(batch, none)["loss"].item() == pytest.approx(svdd.loss(batch, none)["loss"].item())


def test_the_encoder_has_no_bias() -> None:
    assert not [name for name, _ in make(DeepSVDD).autoencoder.encoder.named_parameters() if name.endswith("bias")]


def test_the_centre_is_the_mean_latent_of_the_last_pretraining_batch_and_stays() -> None:
    method, batch = make(DeepSVDD, share=0.5), images(6)
    method.start(batch, 0, 4)
    assert not method.ready
    for step in range(2):
        terms = method(batch, images(0))
        assert set(terms) == {"loss", "reconstruction"}
        method.after_step(step, 0)
    assert method.ready
    with torch.no_grad():
        mean = method.autoencoder.encoder(batch).mean((0, 2, 3))
    assert (method.centre.abs() >= LEAST_COORDINATE - 1e-6).all()
    far = mean.abs() >= LEAST_COORDINATE
    torch.testing.assert_close(method.centre[far], mean[far])
    assert (method.centre.sign() == torch.where(mean < 0, -1.0, 1.0)).all()
    centre = method.centre.clone()
    method(batch, images(0))
    method.after_step(2, 0)
    assert torch.equal(method.centre, centre)


def test_a_checkpoint_within_the_pretraining_goes_on_in_it() -> None:
    method = make(DeepSVDD, share=0.5)
    method.start(images(4), 0, 10)
    method(images(4), images(0))
    method.after_step(0, 0)
    again = make(DeepSVDD, seed=1)
    again.load_state_dict(method.state_dict())
    assert int(again.pretraining_left) == 4
    assert not again.ready


def test_deep_svdd_learns_a_small_problem() -> None:
    method = make(DeepSVDD, share=0.1)
    train(method, 200, labelled=False)
    assert small_problem_auroc(method) > 0.8


def test_deep_sad_learns_a_small_problem() -> None:
    method = make(DeepSAD, share=0.1)
    train(method, 120, labelled=True)
    assert small_problem_auroc(method) > 0.95


def small_problem_auroc(method: DeepSVDD) -> float:
    tiles = torch.cat([patches(60, 9_001, noisy=False), patches(60, 9_002, noisy=True)])
    return float(roc_auc_score([0] * 60 + [1] * 60, method.score(tiles).score))


def test_cells_that_are_not_valid_are_left_out() -> None:
    method, batch = make(DeepSVDD), images(2, 1)
    valid = torch.zeros(2, 4, 4, dtype=torch.bool)
    valid[0, :2] = True
    scores = method.score(batch, valid).score
    with torch.no_grad():
        expected = method.autoencoder.encoder(batch)[0, :, :2].mean((1, 2)).norm()
    assert scores[0].item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.isnan(scores[1])
