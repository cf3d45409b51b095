"""Nearest normal cell: what it remembers, what it scores, and that it comes back from a bundle."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from ssvq.config import Architecture, Memory, TrainConfig
from ssvq.methods.patch_knn import PatchKnn, farthest_first
from ssvq.model.encoders import PACKAGED
from ssvq.model.encoders.weights import find_weights
from tests.support.methods import patches

ARCHITECTURE = Architecture(encoder=PACKAGED, scale=1)


def make(**memory: int) -> PatchKnn:
    torch.manual_seed(0)
    method = PatchKnn(ARCHITECTURE, Memory(**{"candidates": 2000, "cells": 200, **memory}))
    method.encoder.load_network(find_weights(ARCHITECTURE).tensors)
    return method.eval()


def fitted(**memory: int) -> PatchKnn:
    method = make(**memory)
    method.fit(patches(24, 1, noisy=False), patches(0, 2, noisy=True), seed=0)
    return method


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**16))
@settings(deadline=None)
def test_no_point_is_farther_from_those_taken_than_twice_the_least(n: int, number: int, seed: int) -> None:
    points = torch.from_numpy(np.random.default_rng(seed).normal(size=(min(n, 8), 2)))
    taken = farthest_first(points, min(number, 3))
    between = torch.cdist(points, points)
    reached = between[:, taken].amin(1).max()
    centres = itertools.combinations(range(len(points)), len(taken))
    least = min(float(between[:, list(some)].amin(1).max()) for some in centres)
    assert reached <= 2 * least + 1e-6
    assert len(set(taken.tolist())) == len(taken)


def test_a_score_is_the_distance_from_the_nearest_remembered_cell() -> None:
    method, tiles = fitted(), patches(3, 5, noisy=True)
    score = method.score(tiles)
    with torch.no_grad():
        features = method.encoder.features(tiles).double()
    cells = features.movedim(1, 3).flatten(0, 2)
    squared = (cells[:, None] - method.remembered.double()).square().mean(2).amin(1).view(3, 4, 4)
    assert score.cells is not None
    torch.testing.assert_close(score.cells.double(), squared.sqrt(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(score.score.double(), squared.flatten(1).sum(1).sqrt(), rtol=1e-3, atol=1e-3)


def test_what_it_remembers_is_normal_and_as_much_as_it_may() -> None:
    method = fitted()
    assert method.remembered.shape == (200, 152)
    assert (
        method.score(patches(24, 1, noisy=False)).score.mean() < method.score(patches(24, 1, noisy=True)).score.mean()
    )
    assert len(fitted(cells=5000).remembered) == 24 * 16


def test_it_tells_a_small_problem_without_a_label() -> None:
    method = fitted()
    tiles = torch.cat([patches(30, 11, noisy=False), patches(30, 12, noisy=True)])
    assert roc_auc_score([0] * 30 + [1] * 30, method.score(tiles).score) > 0.95


def test_it_comes_back_with_its_memory() -> None:
    method, again = fitted(), make()
    assert not again.ready
    again.load_state_dict(method.state_dict())
    assert again.ready
    tiles = patches(3, 5, noisy=True)
    torch.testing.assert_close(again.score(tiles).score, method.score(tiles).score, rtol=0, atol=0)


def test_the_papers_encoder_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"--method patch-knn compares features of a pretrained network"):
        TrainConfig(images="a", out="b", method="patch-knn", architecture=Architecture())
