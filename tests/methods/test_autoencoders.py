"""ss-DCAE, ss-VAE and ss-gVAE against their losses, written out in NumPy and SciPy."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import gennorm
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ssvq.config import Bottleneck, Objective
from ssvq.methods.base import Method
from ssvq.methods.ss_dcae import SSDCAE
from ssvq.methods.ss_gvae import SSGVAE
from ssvq.methods.ss_vae import SSVAE
from tests.support.methods import TINY, images, patches

KINDS = ("ss-dcae", "ss-vae", "ss-gvae")


def make(kind: str, seed: int = 0, **objective: object) -> Method:
    torch.manual_seed(seed)
    settings = Objective.model_validate(objective)
    match kind:
        case "ss-dcae":
            return SSDCAE(TINY, settings, Bottleneck(dimensions=4))
        case "ss-vae":
            return SSVAE(TINY, settings)
    return SSGVAE(TINY, settings)


@pytest.mark.parametrize("name", ["bounded", "paper"])
def test_ss_dcae_is_the_reconstruction_error_alone(name: str) -> None:
    method, normal, anomalous = make("ss-dcae", name=name, eta=0.3, margin=2.0), images(3, 1), images(2, 2)
    assert isinstance(method, SSDCAE)
    with torch.no_grad():
        decoded = method.autoencoder.decoder(method.autoencoder.encoder(torch.cat([normal, anomalous]))).numpy()
    errors = [
        float(np.mean((d - x) ** 2)) for d, x in zip(decoded, torch.cat([normal, anomalous]).numpy(), strict=True)
    ]
    far = -np.mean(errors[3:]) if name == "paper" else np.mean([max(0, 2 - error) for error in errors[3:]])
    terms = method.loss(normal, anomalous)
    assert terms["loss"].item() == pytest.approx(0.3 * np.mean(errors[:3]) + 0.7 * far, rel=1e-5)
    score = method.score(normal)
    np.testing.assert_allclose(score.score, np.sqrt(np.array(errors[:3]) * 3 * 16 * 16), rtol=1e-5)
    assert score.cells is not None
    np.testing.assert_allclose(score.cells.square().sum((1, 2)).sqrt(), score.score, rtol=1e-5)


@pytest.mark.parametrize("name", ["bounded", "paper"])
@pytest.mark.parametrize("kind", ["ss-vae", "ss-gvae"])
def test_the_variational_loss_is_the_evidence_bound(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the latents drawn known, every term by the densities of SciPy."""
    method, normal, anomalous = make(kind, name=name, eta=0.4, beta=0.7, margin=3.0), images(3, 1), images(2, 2)
    assert isinstance(method, SSVAE)
    shapes = (2.0, 2.0)
    if isinstance(method, SSGVAE):
        with torch.no_grad():
            method.residual_log_shape.fill_(math.log(1.3))
            method.latent_log_shape.fill_(math.log(1.6))
        shapes = (1.3, 1.6)
    with torch.no_grad():
        method.residual_log_scale.fill_(-0.3)
        location, log_scale, _ = method.posterior(torch.cat([normal, anomalous]))
        drawn = method.sample(location, log_scale)
        decoded = method.decoder(drawn).numpy()
    monkeypatch.setattr(method, "sample", lambda *_: drawn)
    residual = decoded - torch.cat([normal, anomalous]).numpy()
    # The Gaussian of scale s is the generalised one of shape 2 and scale s sqrt 2.
    scale = math.exp(-0.3) * (math.sqrt(2) if kind == "ss-vae" else 1)
    reconstruction = -gennorm.logpdf(residual, shapes[0], scale=scale).mean((1, 2, 3))
    m, s, z = location.numpy(), log_scale.exp().numpy(), drawn.numpy()
    if kind == "ss-vae":
        divergence = (m**2 + s**2 - 1) / 2 - np.log(s)
    else:
        # The posterior's entropy as it is, the prior at the latent that was drawn.
        entropy = gennorm.entropy(shapes[1], scale=s)
        divergence = -entropy - gennorm.logpdf(z, shapes[1], scale=prior_scale(shapes[1]))
    bound = reconstruction + 0.7 * divergence.sum(1).mean((1, 2)) / 48
    far = np.maximum(0, 3 - divergence[3:].mean((1, 2, 3))).mean() if name == "bounded" else -bound[3:].mean()
    terms = method.loss(normal, anomalous)
    assert terms["normal"].item() == pytest.approx(bound[:3].mean(), rel=1e-4)
    assert terms["loss"].item() == pytest.approx(0.4 * bound[:3].mean() + 0.6 * far, rel=1e-4)


def prior_scale(shape: float) -> float:
    """Of variance 1."""
    return 1 / float(gennorm.std(shape))


def test_the_generalised_gaussian_of_shape_2_is_the_gaussian() -> None:
    vae, gvae = make("ss-vae"), make("ss-gvae")
    assert isinstance(vae, SSVAE)
    assert isinstance(gvae, SSGVAE)
    location, deviation = images(4, 3), 0.3 + images(4, 4).abs()
    of_vae = vae.divergence(location, deviation.log())
    of_gvae = gvae.divergence(location, (deviation * math.sqrt(2)).log())
    torch.testing.assert_close(of_gvae, of_vae, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [0.7, 1.0, 2.0, 3.5])
def test_samples_have_the_density_that_is_named(shape: float) -> None:
    method = make("ss-gvae")
    assert isinstance(method, SSGVAE)
    with torch.no_grad():
        method.latent_log_shape.fill_(math.log(shape))
        location, log_scale = torch.full((40_000,), 0.5), torch.full((40_000,), math.log(0.8))
        drawn = method.sample(location, log_scale).numpy()
    expected = gennorm(shape, loc=0.5, scale=0.8)
    for probability in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert np.mean(drawn <= expected.ppf(probability)) == pytest.approx(probability, abs=0.012)


def test_the_divergence_that_is_trained_is_right_in_the_mean() -> None:
    method, shape = make("ss-gvae"), 1.4
    assert isinstance(method, SSGVAE)
    with torch.no_grad():
        method.latent_log_shape.fill_(math.log(shape))
        location, log_scale = torch.full((200_000,), 0.6), torch.full((200_000,), math.log(0.5))
        estimated = method.training_divergence(method.sample(location, log_scale), location, log_scale).mean()
    posterior, prior = gennorm(shape, loc=0.6, scale=0.5), gennorm(shape, scale=prior_scale(shape))
    exact = quad(lambda x: posterior.pdf(x) * (posterior.logpdf(x) - prior.logpdf(x)), -6, 7)[0]
    assert estimated.item() == pytest.approx(exact, rel=0.02)


def test_shapes_are_learned() -> None:
    """Latents and residuals get a gradient for their shape."""
    method = make("ss-gvae")
    method.loss(images(3, 1), images(2, 2))["loss"].backward()
    assert isinstance(method, SSGVAE)
    assert method.residual_log_shape.grad is not None
    assert method.residual_log_shape.grad.abs() > 0
    assert method.latent_log_shape.grad is not None
    assert method.latent_log_shape.grad.abs() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_score_is_always_the_same_and_leaves_invalid_cells_out(kind: str) -> None:
    method, batch = make(kind), images(2, 5)
    assert torch.equal(method.score(batch).score, method.score(batch).score)
    valid = torch.zeros(2, 4, 4, dtype=torch.bool)
    valid[0, :2] = True
    scored = method.score(batch, valid)
    assert scored.cells is not None
    expected = (scored.cells[0, :2].square().sum() * 2).sqrt()
    assert scored.score[0].item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.isnan(scored.score[1])


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_they_learn_a_small_problem(kind: str, labelled: bool) -> None:
    method = make(kind)
    optimiser = torch.optim.Adam(method.parameters(), lr=3e-3)
    method.start(patches(32, 77, noisy=False), 0, 100)
    for step in range(100):
        anomalous = patches(16, 2 * step + 1, noisy=True) if labelled else torch.empty(0, 3, 32, 32)
        loss: Tensor = method(patches(16, 2 * step, noisy=False), anomalous)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    tiles = torch.cat([patches(60, 9_001, noisy=False), patches(60, 9_002, noisy=True)])
    assert roc_auc_score([0] * 60 + [1] * 60, method.score(tiles).score) > 0.9
