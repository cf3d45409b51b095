"""One step of a training: learning rates, moving averages, what counts as divergence."""

import numpy as np
import pytest
import torch

from ssvq.config import Optimiser
from ssvq.training.engine import LARGEST_GROWTH, divergence, learning_rate, mean_over_ranks
from tests.support.engines import engine_of, samples


def test_learning_rates() -> None:
    cosine = Optimiser(learning_rate=1e-3)
    assert learning_rate(cosine, 0, 100) == 1e-3
    assert learning_rate(cosine, 50, 100) == pytest.approx(5e-4)
    assert learning_rate(cosine, 99, 100) < 1e-6
    assert learning_rate(Optimiser(schedule="constant", learning_rate=0.5), 77, 100) == 0.5
    assert learning_rate(Optimiser(schedule="linear", learning_rate=1.0), 25, 100) == pytest.approx(0.75)
    warm = Optimiser(schedule="constant", learning_rate=1.0, warmup_steps=4)
    assert [learning_rate(warm, step, 100) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


def test_a_step_uses_the_rate_of_its_place_in_the_schedule() -> None:
    engine = engine_of(steps=10, optimiser={"schedule": "linear", "learning_rate": 0.1})
    engine.start(samples(4, 0))
    engine.step(5, samples(4, 0), samples(4, 1))
    assert [group["lr"] for group in engine.optimiser.param_groups] == [pytest.approx(0.05)]


def test_gradients_are_clipped() -> None:
    """Adam's first step does not depend on their size, so the moments tell."""
    engine = engine_of(optimiser={"clip_norm": 1e-3})
    engine.start(samples(4, 0))
    figures = engine.step(0, samples(4, 0), samples(4, 1))
    assert figures["gradient_norm"] > 1e-3
    moments = [state["exp_avg"] for state in engine.optimiser.state.values()]
    norm = torch.sqrt(sum((moment / 0.1).square().sum() for moment in moments))
    assert norm.item() == pytest.approx(1e-3, rel=1e-2)


def test_the_average_of_the_weights_is_scored_and_has_the_codebook_of_now() -> None:
    decay = 0.9
    engine = engine_of(optimiser={"weight_average": decay})
    engine.start(samples(4, 0))
    name = "encoder.to_latent.weight"
    expected = None
    for step in range(4):
        engine.step(step, samples(4, 2 * step), samples(4, 2 * step + 1))
        weight = engine.method.get_parameter(name).detach()
        expected = weight.clone() if expected is None else decay * expected + (1 - decay) * weight
    assert engine.scored is not engine.method
    torch.testing.assert_close(engine.scored.get_parameter(name).detach(), expected)
    assert torch.equal(engine.scored.get_buffer("codebook.codes"), engine.method.get_buffer("codebook.codes"))


def test_without_an_average_the_weights_are_scored() -> None:
    engine = engine_of()
    assert engine.scored is engine.method


def test_figures_are_those_of_the_batch() -> None:
    engine = engine_of()
    engine.start(samples(4, 0))
    figures = mean_over_ranks(engine.step(0, samples(4, 0), samples(4, 1)))
    expected = {"loss", "reconstruction", "commitment", "normal", "anomalous", "anomalous_distance"}
    assert expected | {"codes_used", "perplexity", "gradient_norm"} == set(figures)
    assert all(np.isfinite(value) for value in figures.values())


def test_divergence() -> None:
    assert divergence(1.0, 2.0) is None
    assert divergence(LARGEST_GROWTH, 0.1) is None
    assert divergence(float("nan"), 1.0) == "the loss is nan"
    assert divergence(float("-inf"), 1.0) == "the loss is -inf"
    assert divergence(-3 * LARGEST_GROWTH, 2.0) == "the loss is -3e+04, and began at 2"
