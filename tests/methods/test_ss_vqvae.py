"""ss-VQ-VAE against its equations, written out with loops; where gradients go and where they stop."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ssvq.config import CodebookSettings, Objective
from ssvq.errors import InputError
from ssvq.methods.build import build_method
from ssvq.methods.ss_vqvae import SSVQVAE, weights_of_cells
from ssvq.model.whitening import ColourWhitening
from tests.support.methods import SIDE, TINY, images, patches


def make(seed: int = 0, codebook: dict[str, Any] | None = None, **objective: Any) -> SSVQVAE:
    """A tiny model with codes as far apart as its latents are, so that Q is not trivial."""
    torch.manual_seed(seed)
    method = SSVQVAE(TINY, Objective(**objective), CodebookSettings(**codebook or {}))
    with torch.no_grad():
        method.codebook.codes.copy_(0.3 * torch.randn(TINY.codes, TINY.dimensions))
        method.codebook.sums.copy_(method.codebook.codes)
    return method


def slow_quantise(method: SSVQVAE, latents: np.ndarray) -> np.ndarray:
    """Q of one sample by Eq. 1, (D, h, w), cell by cell."""
    codes = method.codebook.codes.detach().double().numpy()
    quantised = np.empty_like(latents)
    for i in range(latents.shape[1]):
        for j in range(latents.shape[2]):
            nearest = min(range(len(codes)), key=lambda k: np.sum((latents[:, i, j] - codes[k]) ** 2))
            quantised[:, i, j] = codes[nearest]
    return quantised


@torch.no_grad()
def sample_by_sample(method: SSVQVAE, batch: Tensor) -> list[dict[str, np.ndarray]]:
    """X, E(X), Q(X) and D(Q(X)) of each sample, in float64."""
    found = []
    for x in batch:
        latents = method.encode(x[None])[0].double().numpy()
        codes = slow_quantise(method, latents)
        decoded = method.decoder(torch.from_numpy(codes).float()[None])[0].double().numpy()
        found.append({"x": x.double().numpy(), "e": latents, "q": codes, "d": decoded})
    return found


def squared_norm(array: np.ndarray) -> float:
    return math.fsum(float(value) ** 2 for value in array.ravel())


# The objective as printed


def slow_eq2(method: SSVQVAE, batch: Tensor, beta: float) -> float:
    """The mean over N of three squared norms; also what Eq. 3 is minus of."""
    samples = sample_by_sample(method, batch)
    total = 0.0
    for s in samples:
        reconstruction = squared_norm(s["d"] - s["x"])
        codebook = squared_norm(s["e"] - s["q"])
        commitment = squared_norm(s["e"] - s["q"])
        total += reconstruction + codebook + beta * commitment
    return total / len(samples)


@pytest.mark.parametrize(("beta", "eta"), [(1.0, 0.5), (0.25, 0.7), (0.0, 2.0)])
def test_paper_objective_is_eq_2_to_4(beta: float, eta: float) -> None:
    method = make(name="paper", beta=beta, eta=eta)
    normal, anomalous = images(3, 1), images(2, 2)
    terms = method.loss(normal, anomalous)
    eq2, eq3 = slow_eq2(method, normal, beta), -slow_eq2(method, anomalous, beta)
    assert terms["normal"].item() == pytest.approx(eq2, rel=1e-4)
    assert terms["anomalous"].item() == pytest.approx(eq3, rel=1e-4)
    assert terms["loss"].item() == pytest.approx(eta * eq2 + (1 - eta) * eq3, rel=1e-4)
    samples = sample_by_sample(method, normal)
    for name, pair in {"reconstruction": ("d", "x"), "codebook": ("e", "q"), "commitment": ("e", "q")}.items():
        slow = np.mean([squared_norm(s[pair[0]] - s[pair[1]]) for s in samples])
        assert terms[name].item() == pytest.approx(slow, rel=1e-4)


# The bounded objective


@pytest.mark.parametrize("margin_on", ["sample", "cell"])
@pytest.mark.parametrize("margin", [0.004, 0.012, 5.0])
def test_bounded_objective(margin_on: str, margin: float) -> None:
    beta, eta = 0.7, 0.6
    method = make(beta=beta, eta=eta, margin=margin, margin_on=margin_on)
    normal, anomalous = images(3, 1), 2 * images(4, 2)
    terms = method.loss(normal, anomalous)

    of_normal = sample_by_sample(method, normal)
    reconstruction = np.mean([squared_norm(s["d"] - s["x"]) / s["x"].size for s in of_normal])
    commitment = np.mean([squared_norm(s["e"] - s["q"]) / s["e"].size for s in of_normal])
    hinges = []
    for s in sample_by_sample(method, anomalous):
        cells = [np.mean((s["e"] - s["q"])[:, i, j] ** 2) for i in range(SIDE // 4) for j in range(SIDE // 4)]
        distances = cells if margin_on == "cell" else [np.mean(cells)]
        hinges += [max(0.0, margin - distance) for distance in distances]
    normal_loss = reconstruction + beta * commitment
    assert terms["reconstruction"].item() == pytest.approx(reconstruction, rel=1e-4)
    assert terms["commitment"].item() == pytest.approx(commitment, rel=1e-4)
    assert terms["normal"].item() == pytest.approx(normal_loss, rel=1e-4)
    assert terms["anomalous"].item() == pytest.approx(np.mean(hinges), rel=1e-3, abs=1e-7)
    assert terms["loss"].item() == pytest.approx(eta * normal_loss + (1 - eta) * np.mean(hinges), rel=1e-4)


def test_the_margins_differ_where_cells_do() -> None:
    """Else the test above could not tell one from the other."""
    batch = images(3, 1), 2 * images(4, 2)
    on_sample, on_cell = (make(margin=0.012, margin_on=on).loss(*batch)["anomalous"] for on in ("sample", "cell"))
    assert on_cell > on_sample


def test_an_anomaly_beyond_the_margin_is_left_alone() -> None:
    method = make(margin=1e-6)
    method.loss(images(2, 1), images(2, 2))["anomalous"].backward()
    assert all(p.grad is None or not p.grad.any() for p in method.parameters())


# Gradients


def gradients(loss: Tensor, of: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, of, retain_graph=True, allow_unused=True)
    return torch.zeros_like(of) if gradient is None else gradient


@pytest.mark.parametrize("name", ["paper", "bounded"])
def test_straight_through(name: str) -> None:
    """The encoder gets from the reconstruction exactly the decoder's gradient at the quantised point."""
    method = make(name=name)
    normal = images(2, 1)
    caught: list[Tensor] = []

    def keep(_module: object, _inputs: object, latents: Tensor) -> None:
        latents.retain_grad()
        caught.append(latents)

    hook = method.encoder.register_forward_hook(keep)
    # Without commitment, all that reaches the latents comes through the decoder.
    if name == "paper":
        reconstruction = method.terms(normal)["reconstruction"].sum()
    else:
        reconstruction = method.loss(normal, normal[:0])["reconstruction"]
    hook.remove()
    reconstruction.backward()

    with torch.no_grad():
        codes, _ = method.quantise(method.encode(normal))
    at = codes.clone().requires_grad_()
    difference = method.decoder(at) - normal
    loss = difference.square().sum() if name == "paper" else difference.square().mean()
    (expected,) = torch.autograd.grad(loss, at)
    assert expected.abs().max() > 0
    torch.testing.assert_close(caught[0].grad, expected, rtol=1e-4, atol=1e-6)


def test_no_gradient_crosses_a_stop_of_eq_2() -> None:
    method = make(name="paper")
    terms = method.terms(images(2, 1))
    codes, encoder = method.codebook.codes, method.encoder.to_latent.weight
    assert not gradients(terms["codebook"].sum(), encoder).any()
    assert not gradients(terms["commitment"].sum(), codes).any()
    # The reconstruction reaches the encoder by the straight-through alone, and teaches the codes nothing.
    assert not gradients(terms["reconstruction"].sum(), codes).any()
    assert gradients(terms["codebook"].sum(), codes).any()
    assert gradients(terms["commitment"].sum(), encoder).any()


def test_the_codebook_term_pulls_each_code_to_its_latents() -> None:
    method = make(name="paper")
    terms = method.terms(images(2, 1))
    cells = terms["latents"].detach().permute(0, 2, 3, 1).reshape(-1, TINY.dimensions)
    codes = method.codebook.codes.detach()
    expected = torch.zeros_like(codes)
    for cell, index in zip(cells, terms["indices"], strict=True):
        expected[index] += 2 * (codes[index] - cell)
    found = gradients(terms["codebook"].sum(), method.codebook.codes)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_bounded_codes_learn_nothing_by_gradient() -> None:
    method = make()
    assert "codebook.codes" in dict(method.named_buffers())
    assert "codebook.codes" not in dict(method.named_parameters())
    method.loss(images(2, 1), images(2, 2))["loss"].backward()
    assert not method.codebook.codes.requires_grad
    assert method.codebook.codes.grad is None


def test_anomalies_teach_the_bounded_decoder_nothing() -> None:
    method = make(margin=5.0)
    terms = method.loss(images(2, 1), images(2, 2))
    for weight in method.decoder.parameters():
        assert not gradients(terms["anomalous"], weight).any()
    assert gradients(terms["anomalous"], method.encoder.to_latent.weight).any()


# gamma = 0


@pytest.mark.parametrize("name", ["paper", "bounded"])
def test_without_anomalies_it_is_vq_vae(name: str) -> None:
    method = make(name=name, eta=0.5)
    normal = images(3, 1)
    terms = method.loss(normal, normal[:0])
    assert "anomalous" not in terms
    assert terms["loss"].item() == pytest.approx(0.5 * terms["normal"].item())
    terms["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())


# Learning of the codebook


def test_the_codebook_follows_normal_latents_alone() -> None:
    normal = images(3, 1)
    states = []
    for anomalous in (images(2, 2), 9 * images(5, 3), normal[:0]):
        method = make()
        method.loss(normal, anomalous)
        method.after_step(0, seed=0)
        states.append(method.codebook.state_dict())
    for state in states[1:]:
        for name, tensor in state.items():
            torch.testing.assert_close(tensor, states[0][name], msg=name)
    assert not torch.equal(states[0]["codes"], make().codebook.codes)


def test_following_is_that_of_the_codebook() -> None:
    method, normal = make(), images(3, 1)
    reference = make().codebook
    with torch.no_grad():
        cells = method.encode(normal).permute(0, 2, 3, 1).reshape(-1, TINY.dimensions)
    indices = reference.assign(cells)
    reference.follow(*reference.usage(cells, indices))
    method.loss(normal, images(2, 2))
    record = method.after_step(0, seed=0)
    torch.testing.assert_close(method.codebook.codes, reference.codes, rtol=1e-4, atol=1e-5)
    share = np.bincount(indices.numpy()) / len(indices)
    share = share[share > 0]
    assert record["codes_used"] == len(share)
    assert record["perplexity"].item() == pytest.approx(np.exp(-np.sum(share * np.log(share))), rel=1e-3)
    assert method.after_step(1, seed=0) == {}  # a step's latents are followed once


def test_codes_learned_by_gradient_follow_nothing() -> None:
    method = make(name="paper")
    before = method.codebook.codes.detach().clone()
    method.start(images(3, 1), seed=0, steps=9)
    method.loss(images(3, 1), images(2, 2))
    method.after_step(49, seed=0)
    assert torch.equal(method.codebook.codes, before)


def test_dead_codes_are_looked_for_now_and_then() -> None:
    method = make(codebook={"reseed_every": 3, "dead_below": 0.99})
    reseeded = []
    for step in range(6):
        method.loss(images(3, step), images(0))
        reseeded.append("codes_reseeded" in method.after_step(step, seed=0))
    assert reseeded == [False, False, True, False, False, True]


def test_start_puts_the_codes_among_the_first_latents() -> None:
    method, normal = make(), images(8, 1)
    before = method.score(normal).score
    method.start(normal, seed=0, steps=9)
    assert (method.score(normal).score < before).all()


@pytest.mark.parametrize("name", ["bounded", "paper"])
def test_whitened_colours_are_what_is_reconstructed(name: str) -> None:
    method, plain = make(name=name), make(name=name)
    mixed = images(3, 1) @ torch.ones(SIDE, SIDE).triu() + 0.1 * images(3, 2)
    method.start(mixed, seed=0, steps=9)
    plain.load_state_dict(method.state_dict())
    plain.encoder.whitening = ColourWhitening()
    found = method.loss(mixed, images(0))["reconstruction"]
    assert found.item() == pytest.approx(
        plain.loss(method.encoder.whitening(mixed), images(0))["reconstruction"].item(), rel=1e-4
    )
    assert found.item() != pytest.approx(plain.loss(mixed, images(0))["reconstruction"].item(), rel=1e-2)


# The score


def test_score_is_eq_5() -> None:
    method, tiles = make(), images(3, 1)
    score, cells = method.score(tiles)
    assert score.dtype == torch.float32
    assert cells is not None
    assert cells.shape == (3, SIDE // 4, SIDE // 4)
    for i, s in enumerate(sample_by_sample(method, tiles)):
        assert score[i].item() == pytest.approx(math.sqrt(squared_norm(s["e"] - s["q"])), rel=1e-4)
        slow = np.sqrt(((s["e"] - s["q"]) ** 2).sum(axis=0))
        assert cells[i].numpy() == pytest.approx(slow, rel=1e-3, abs=1e-3)


def test_the_decoder_is_not_needed_to_score() -> None:
    method, tiles = make(), images(3, 1)
    expected = method.score(tiles).score
    del method.decoder
    assert torch.equal(method.score(tiles).score, expected)


def test_score_over_valid_cells_is_scaled_to_all() -> None:
    method, tiles = make(), images(3, 1)
    cells = method.score(tiles).cells
    assert cells is not None
    valid = torch.rand(cells.shape, generator=torch.Generator().manual_seed(0)) < 0.6
    valid[2] = False
    valid[2, 0, 0] = True
    score, same_cells = method.score(tiles, valid)
    assert torch.equal(same_cells, cells)
    for i in range(3):
        kept = cells[i][valid[i]].double()
        assert score[i].item() == pytest.approx(math.sqrt(cells[i].numel() / len(kept)) * float(kept.norm()), rel=1e-5)


def test_a_tile_with_every_cell_valid_scores_as_without_a_mask_and_one_with_none_has_nan() -> None:
    method, tiles = make(), images(2, 1)
    valid = torch.ones(2, SIDE // 4, SIDE // 4, dtype=torch.bool)
    valid[1] = False
    score = method.score(tiles, valid).score
    assert score[0].item() == pytest.approx(method.score(tiles).score[0].item(), rel=1e-6)
    assert score[1].isnan()


def test_latents_further_from_the_codes_score_higher() -> None:
    method, tiles = make(), images(1, 1)
    scores = []
    for scale in (1, 0.3, 0.1, 0):
        with torch.no_grad():
            method.codebook.codes.copy_(method.encode(tiles)[0].flatten(1).T[:16])  # every cell its own code
            method.codebook.codes.add_(5 * (1 - scale))
        scores.append(method.score(tiles).score.item())
    assert scores == sorted(scores)
    assert scores[0] < 0.05 < scores[-1]


def test_scoring_leaves_no_gradient_and_no_trace() -> None:
    method = make()
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    assert not method.score(images(2, 1)).score.requires_grad
    assert method.after_step(0, seed=0) == {}
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.state_dict().items())


# By name


def test_a_method_is_built_again_from_its_settings() -> None:
    method = make(margin=0.3)
    settings = {
        "architecture": TINY.model_dump(mode="json"),
        "objective": method.objective.model_dump(mode="json"),
        "codebook": method.codebook_settings.model_dump(mode="json"),
    }
    again = build_method("ss-vq-vae", settings)
    again.load_state_dict(method.state_dict())
    assert torch.allclose(again.score(images(2, 1)).score, method.score(images(2, 1)).score, rtol=1e-4)
    with pytest.raises(InputError, match=r"'other'.*ss-vq-vae, deep-svdd"):
        build_method("other", settings)


# Small problems


def train(method: SSVQVAE, steps: int, clip: float = 1.0) -> list[float]:
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-3)
    method.start(patches(16, 0, noisy=False), seed=0, steps=steps)
    losses = []
    for step in range(steps):
        terms = method(patches(16, 2 * step, noisy=False), patches(16, 2 * step + 1, noisy=True))
        optimiser.zero_grad()
        terms["loss"].backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), clip)
        optimiser.step()
        method.after_step(step, seed=0)
        losses.append(terms["loss"].item())
    return losses


def test_bounded_objective_learns_a_small_problem() -> None:
    method = make(codebook={"reseed_every": 20})
    losses = train(method, steps=150)
    assert all(loss >= 0 for loss in losses)
    normal, anomalous = patches(100, 9_001, noisy=False), patches(100, 9_002, noisy=True)
    scores = method.score(torch.cat([normal, anomalous])).score
    assert roc_auc_score([0] * 100 + [1] * 100, scores) > 0.95
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])


def test_paper_objective_falls_without_bound() -> None:
    losses = train(make(name="paper"), steps=250)
    quarters = [min(part) for part in np.array_split(losses, 4)]
    assert quarters == sorted(quarters, reverse=True)
    assert quarters[-1] < -1
    assert quarters[-1] < 2 * quarters[-2]  # faster and faster


# Labels by cell


def shares_of(samples: int, seed: int = 0) -> Tensor:
    """Shares of anomalous pixels of cells, some of them 0 or 1."""
    drawn = torch.rand(samples, SIDE // 4, SIDE // 4, generator=torch.Generator().manual_seed(seed))
    return (1.5 * drawn - 0.25).clamp(0, 1)


def lacking(label: NDArray[np.float64], distance: NDArray[np.float64], margin: float, normal: int) -> float:
    """Half of it a mean over all cells, half a mean over the anomalous samples, by the shares of their cells."""
    lack = label * np.maximum(0, margin - distance)
    of_samples = [one.sum() / cells.sum() for one, cells in zip(lack[normal:], label[normal:], strict=True)]
    return float(lack.mean() + np.mean(of_samples)) / 2


def test_every_cell_is_pulled_in_and_pushed_out_by_its_share() -> None:
    method = make(beta=0.7, eta=0.4, margin=0.05, labels="cell")
    normal, anomalous, shares = images(3), images(2, 1), shares_of(5)
    found = sample_by_sample(method, torch.cat([normal, anomalous]))
    distance = np.stack([((one["e"] - one["q"]) ** 2).mean(0) for one in found])
    label = shares.double().numpy()
    near = ((1 - label) * distance).sum() / (1 - label).sum()
    white = method.encoder.whitening(torch.cat([normal, anomalous])).double().numpy()
    reconstruction = np.mean([((one["d"] - white[i]) ** 2).mean() for i, one in enumerate(found[:3])])
    far = lacking(label, distance, 0.05, 3)
    terms = method.loss(normal, anomalous, shares)
    assert terms["loss"].item() == pytest.approx(0.4 * (0.7 * near + reconstruction) + 0.6 * far, rel=1e-4)


def test_a_small_defect_is_pushed_out_with_half_the_weight_of_a_large_one_at_least() -> None:
    method = make(margin=1000.0, labels="cell")
    normal, anomalous = images(3), images(2, 1)
    pushes = []
    for side in (1, SIDE // 4):
        shares = torch.zeros(5, SIDE // 4, SIDE // 4)
        shares[3:, :side, :side] = 1
        pushes.append(method.loss(normal, anomalous, shares)["anomalous"].item())
    assert pushes[0] > 0.5 * pushes[1]


def test_a_sample_that_is_labelled_as_a_whole_is_pushed_out_as_a_whole() -> None:
    method = make(margin=0.05, labels="cell")
    normal, anomalous, shares = images(3), images(2, 1), shares_of(5)
    shares[:3] = 0
    shares[4] = float("nan")
    found = sample_by_sample(method, anomalous)
    distance = np.stack([((one["e"] - one["q"]) ** 2).mean(0) for one in found])
    label = shares[3].double().numpy()
    lack = (label * np.maximum(0, 0.05 - distance[0])).sum()
    as_a_whole = max(0, 0.05 - distance[1].mean())
    expected = (lack / shares.numel() + as_a_whole / 5 + (lack / label.sum() + as_a_whole) / 2) / 2
    assert method.loss(normal, anomalous, shares)["anomalous"].item() == pytest.approx(expected, rel=1e-4)


def test_the_codebook_follows_normal_cells_of_all_samples_and_no_other() -> None:
    method = make(labels="cell", codebook={"decay": 0.5, "reseed_every": None})
    shares = torch.zeros(5, SIDE // 4, SIDE // 4)
    shares[0, 0, 0], shares[3:] = 1, 1
    shares[4, 1, 2] = 0.05
    normal, anomalous = images(3), images(2, 1)
    with torch.no_grad():
        latents = method.encode(torch.cat([normal, anomalous])).permute(0, 2, 3, 1)[shares < 0.1]
    before = method.codebook.counts.clone()
    method.loss(normal, anomalous, shares)
    method.after_step(0, 0)
    used = torch.bincount(method.codebook.assign(latents), minlength=TINY.codes)
    assert len(latents) == 3 * 16 - 1 + 1
    # Codes have moved by now; counts are of where latents were before.
    assert (2 * method.codebook.counts - before).sum().item() == pytest.approx(used.sum().item())


def test_padding_is_neither_pulled_nor_pushed() -> None:
    pulled, pushed = weights_of_cells(torch.tensor([[[0.0, float("nan")]], [[1.0, float("nan")]]]), 1)
    assert pulled.tolist() == [[[1, 0]], [[0, 0]]]
    assert pushed.tolist() == [[[0, 0]], [[1, 0]]]


def test_labels_act_by_cell_where_the_objective_can() -> None:
    assert SSVQVAE.labels_by_cell(Objective(labels="cell"))
    for other in ({"labels": "tile"}, {"name": "paper"}, {"terms": "no-codebook"}):
        assert not SSVQVAE.labels_by_cell(Objective(**{"labels": "cell", **other}))
