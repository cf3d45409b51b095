"""The supervised reference: what it computes, and that it learns."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ssvq.methods.build import build_method
from ssvq.methods.classifier import Classifier
from tests.support.methods import TINY, images, patches


def make(seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    method = build_method("classifier", {"architecture": TINY.model_dump(mode="json")})
    assert isinstance(method, Classifier)
    return method


def test_loss_is_the_cross_entropy_of_the_mean_latent() -> None:
    method, normal, anomalous = make(), images(3, 1), images(2, 2)
    terms = method.loss(normal, anomalous)
    with torch.no_grad():
        latents = method.encoder(torch.cat([normal, anomalous])).double().numpy()
    weight, bias = (p.detach().double().numpy() for p in method.to_logit.parameters())
    logits = latents.mean((2, 3)) @ weight[0] + bias
    chance = 1 / (1 + np.exp(-logits))
    slow = [-np.log(1 - p) for p in chance[:3]] + [-np.log(p) for p in chance[3:]]
    assert terms["loss"].item() == pytest.approx(np.mean(slow), rel=1e-4)
    assert terms["normal"].item() == pytest.approx(np.mean(slow[:3]), rel=1e-4)
    assert terms["anomalous"].item() == pytest.approx(np.mean(slow[3:]), rel=1e-4)
    score = method.score(torch.cat([normal, anomalous]))
    np.testing.assert_allclose(score.score.numpy(), logits, rtol=1e-4, atol=1e-5)
    assert score.cells is not None
    of_cells = np.moveaxis(latents, 1, 3) @ weight[0] + bias
    np.testing.assert_allclose(score.cells.numpy(), 1 / (1 + np.exp(-of_cells)), rtol=1e-4)


def test_labels_by_cell_are_the_cross_entropy_of_each_cell() -> None:
    """A sample that is labelled as a whole has that of its mean."""
    method, normal, anomalous = make(), images(2, 1), images(2, 2)
    shares = torch.zeros(4, 4, 4)
    shares[2] = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    shares[3] = float("nan")
    terms = method.loss(normal, anomalous, shares)
    with torch.no_grad():
        logits = method.logits(torch.cat([normal, anomalous])).double().numpy()
    chance, share = 1 / (1 + np.exp(-logits)), shares.numpy()
    by_cell = -(share * np.log(chance) + (1 - share) * np.log(1 - chance))[:3].sum() / (4 * 16)
    whole = np.log1p(np.exp(-logits[3].mean())) / 4
    assert terms["loss"].item() == pytest.approx(by_cell + whole, rel=1e-4)


def test_cells_that_are_not_valid_are_left_out() -> None:
    method, batch = make(), images(2, 1)
    valid = torch.zeros(2, 4, 4, dtype=torch.bool)
    valid[0, :2] = True
    scores = method.score(batch, valid).score
    with torch.no_grad():
        expected = method.to_logit(method.encoder(batch)[0, :, :2].mean((1, 2)))
    assert scores[0].item() == pytest.approx(expected.item(), rel=1e-4)
    assert torch.isnan(scores[1])


def test_it_learns_a_small_problem() -> None:
    method = make()
    optimiser = torch.optim.Adam(method.parameters(), lr=3e-3)
    for step in range(120):
        loss = method(patches(16, 2 * step, noisy=False), patches(16, 2 * step + 1, noisy=True))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    normal, anomalous = patches(60, 9_001, noisy=False), patches(60, 9_002, noisy=True)
    scores = method.score(torch.cat([normal, anomalous])).score
    assert roc_auc_score([0] * 60 + [1] * 60, scores) > 0.9
