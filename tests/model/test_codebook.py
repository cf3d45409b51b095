"""The codebook against Eq. 1 and a slow reference of its learning; and that ranks never drift apart."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssvq.model.codebook import CELLS_AT_ONCE, SMOOTHING, Codebook, bf16_factors

STEPS = 5


def latents_of(seed: int, cells: int, dimensions: int = 4, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(cells, dimensions, generator=generator)


def codebook_with(codes: Tensor, *, decay: float = 0.9) -> Codebook:
    """A codebook of these codes, each with a usage of 1."""
    codebook = Codebook(*codes.shape, learned_by_gradient=False, decay=decay)
    codebook.codes.copy_(codes)
    codebook.sums.copy_(codes)
    return codebook


def slow_squared_distances(codebook: Codebook, latents: Tensor) -> np.ndarray:
    """|z - e|^2 of every cell to every code, in float64: (cells, K)."""
    z, e = latents.double().numpy(), codebook.codes.detach().double().numpy()
    return np.array([[np.sum((cell - code) ** 2) for code in e] for cell in z])


# Look-up (Eq. 1)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(2, 20), st.integers(1, 8), st.sampled_from([0.1, 1, 30]))
@settings(max_examples=50, deadline=None)
def test_the_nearest_code_and_its_squared_distance(
    seed: int, cells: int, codes: int, dimensions: int, scale: float
) -> None:
    codebook = codebook_with(latents_of(seed, codes, dimensions, scale))
    latents = latents_of(seed + 1, cells, dimensions, scale)
    slow = slow_squared_distances(codebook, latents)
    found = codebook.assign(latents)
    assert found.dtype == torch.int64
    assert found.shape == (cells,)
    # Against the distance and not the index, since two codes may be equally near to rounding.
    assert slow[np.arange(cells), found.numpy()] == pytest.approx(slow.min(axis=1), rel=1e-4, abs=1e-5 * scale**2)
    distance = codebook.squared_distance(latents)
    assert distance.dtype == torch.float32
    assert distance.numpy() == pytest.approx(slow.min(axis=1), rel=1e-4, abs=1e-5 * scale**2)


def test_cells_beyond_one_block_are_looked_up_in_order() -> None:
    codebook = codebook_with(latents_of(0, 16))
    latents = latents_of(1, 2 * CELLS_AT_ONCE + 7)
    distances = torch.cdist(latents.double(), codebook.codes.double()).square()
    assert torch.equal(codebook.assign(latents), distances.argmin(1))
    torch.testing.assert_close(codebook.squared_distance(latents), distances.amin(1).float(), rtol=1e-4, atol=1e-5)


def test_a_latent_on_a_code_has_distance_0() -> None:
    codebook = codebook_with(latents_of(0, 256, dimensions=64, scale=10))
    assert torch.equal(codebook.assign(codebook.codes), torch.arange(256))
    distance = codebook.squared_distance(codebook.codes)
    assert (distance >= 0).all()  # rounding goes either way, and a negative one would have a NaN for a root
    assert (distance < 1e-5 * codebook.codes.square().sum(1)).all()


def test_the_look_up_is_exact_under_autocast() -> None:
    codebook, latents = codebook_with(latents_of(0, 16)), latents_of(1, 50)
    exact = codebook.assign(latents), codebook.squared_distance(latents)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(codebook.assign(latents), exact[0])
        assert torch.equal(codebook.squared_distance(latents), exact[1])


def test_the_look_up_has_no_gradient() -> None:
    codebook = Codebook(16, 4, learned_by_gradient=True)
    latents = latents_of(0, 10).requires_grad_()
    assert not codebook.squared_distance(latents).requires_grad


def test_codes_are_a_parameter_only_when_learned_by_gradient() -> None:
    assert [name for name, _ in Codebook(8, 4, learned_by_gradient=True).named_parameters()] == ["codes"]
    following = Codebook(8, 4, learned_by_gradient=False)
    assert list(following.parameters()) == []
    assert set(following.state_dict()) == {"codes", "counts", "sums"}  # a resumed run goes on from all three


def test_codes_begin_within_one_kth_of_0() -> None:
    codes = Codebook(8, 1000, learned_by_gradient=False).codes
    assert codes.abs().max() <= 1 / 8
    assert codes.abs().max() > 0.9 / 8


# The start


def test_k_means_finds_separated_clusters() -> None:
    centres = torch.tensor([[0.0, 0, 0, 0], [10, 0, 0, 0], [0, 10, 0, 0], [0, 0, 10, 10]])
    sizes = [10, 20, 30, 40]
    latents = torch.cat([centres[i] + latents_of(i, n, scale=0.1) for i, n in enumerate(sizes)])
    latents = latents[torch.randperm(len(latents), generator=torch.Generator().manual_seed(0))]
    codebook = Codebook(4, 4, learned_by_gradient=False)
    codebook.start_from(latents, seed=0)
    found = codebook.assign(centres)
    assert sorted(found.tolist()) == [0, 1, 2, 3]
    torch.testing.assert_close(codebook.codes[found], centres, atol=0.1, rtol=0)
    assert codebook.counts[found].tolist() == sizes
    torch.testing.assert_close(codebook.sums, codebook.codes * codebook.counts[:, None])


def test_the_start_follows_its_seed_and_leaves_the_global_draws_alone() -> None:
    latents = latents_of(0, 300)
    first, again, other = (Codebook(8, 4, learned_by_gradient=False) for _ in range(3))
    before = torch.get_rng_state()
    first.start_from(latents, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    again.start_from(latents, seed=1)
    other.start_from(latents, seed=2)
    assert torch.equal(first.codes, again.codes)
    assert not torch.equal(first.codes, other.codes)


def test_fewer_latents_than_codes_are_enough_to_start() -> None:
    latents = latents_of(0, 3)
    codebook = Codebook(16, 4, learned_by_gradient=False)
    codebook.start_from(latents, seed=0)
    assert torch.isfinite(codebook.codes).all()
    assert torch.cdist(codebook.codes, latents).amin(1).max() < 0.05  # every code is near one of the three
    assert codebook.squared_distance(latents).max() < 0.01
    assert codebook.counts.sum() == 3


def test_k_means_sees_a_bounded_sample() -> None:
    latents = latents_of(0, 500)
    codebook = Codebook(4, 4, learned_by_gradient=False)
    codebook.start_from(latents, seed=0, sample=4)
    # The means of four clusters of four latents are those latents.
    assert torch.cdist(codebook.codes, latents).amin(1).max() < 1e-5
    assert codebook.counts.sum() == 500  # the moving averages start from all of them


# Moving averages


def slow_follow(
    counts: np.ndarray, sums: np.ndarray, latents: np.ndarray, indices: np.ndarray, decay: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """van den Oord et al. 2017, appendix A.1, with Laplace smoothing; code by code, in float64."""
    counts, sums = counts.copy(), sums.copy()
    for k in range(len(counts)):
        mine = [latent for latent, index in zip(latents, indices, strict=True) if index == k]
        counts[k] = decay * counts[k] + (1 - decay) * len(mine)
        sums[k] = decay * sums[k] + (1 - decay) * np.sum(mine or [np.zeros(latents.shape[1])], axis=0)
    total = counts.sum()
    smoothed = [(count + SMOOTHING) / (total + len(counts) * SMOOTHING) * total for count in counts]
    return counts, sums, sums / np.array(smoothed)[:, None]


def test_moving_averages_equal_the_slow_reference() -> None:
    codebook = codebook_with(latents_of(0, 6), decay=0.7)
    counts, sums = codebook.counts.double().numpy(), codebook.sums.double().numpy()
    for step in range(STEPS):
        latents = latents_of(10 + step, 40)
        indices = codebook.assign(latents)
        codebook.follow(*codebook.usage(latents, indices))
        counts, sums, codes = slow_follow(counts, sums, latents.double().numpy(), indices.numpy(), 0.7)
        assert codebook.counts.numpy() == pytest.approx(counts, rel=1e-5)
        assert codebook.sums.numpy() == pytest.approx(sums, rel=1e-4, abs=1e-5)
        assert codebook.codes.numpy() == pytest.approx(codes, rel=1e-4, abs=1e-5)


def test_a_code_moves_to_the_mean_of_its_latents_and_no_other_moves() -> None:
    codebook = codebook_with(torch.tensor([[0.0, 0], [100, 0]]), decay=0.9)
    latents = torch.tensor([[1.0, 2], [3, 4]])
    mean = torch.tensor([2.0, 3])
    away = [float((codebook.codes[0] - mean).norm())]
    for _ in range(60):
        codebook.follow(*codebook.usage(latents, torch.zeros(2, dtype=torch.int64)))
        away.append(float((codebook.codes[0] - mean).norm()))
    assert away == sorted(away, reverse=True)
    assert away[-1] < 0.01
    torch.testing.assert_close(codebook.codes[1], torch.tensor([100.0, 0]), rtol=0.02, atol=0.01)
    assert codebook.counts[1] == pytest.approx(0.9**60, rel=1e-3)  # but its usage fades


def test_a_code_that_was_never_used_stays_a_number() -> None:
    """Smoothing keeps 0 latents over 0 uses from being NaN."""
    codebook = codebook_with(latents_of(0, 4))
    codebook.counts[2] = 0
    codebook.sums[2] = 0
    codebook.follow(*codebook.usage(latents_of(1, 5), torch.zeros(5, dtype=torch.int64)))
    assert torch.isfinite(codebook.codes).all()


# Dead codes


def test_only_dead_codes_are_set_anew() -> None:
    codebook = codebook_with(latents_of(0, 8))
    counts = torch.tensor([10.0, 0.3, 12, 8, 0.0, 9, 0.5, 10])  # dead under 0.05 of the mean, 0.31
    codebook.counts.copy_(counts)
    codebook.sums.copy_(codebook.codes * counts[:, None])
    before = {name: tensor.clone() for name, tensor in codebook.state_dict().items()}
    latents = latents_of(1, 30)
    dead = torch.tensor([False, True, False, False, True, False, False, False])
    assert codebook.reseed_dead(latents, dead_below=0.05, seed=3) == 2
    for name, tensor in codebook.state_dict().items():
        assert torch.equal(tensor[~dead], before[name][~dead])
    assert all(any(torch.equal(code, latent) for latent in latents) for code in codebook.codes[dead])
    torch.testing.assert_close(codebook.counts[dead], counts.mean().expand(2))
    torch.testing.assert_close(codebook.sums[dead], codebook.codes[dead] * counts.mean())
    # They are alive now, and stand where they were set while nothing is assigned to them.
    assert codebook.reseed_dead(latents, dead_below=0.05, seed=4) == 0
    alive = codebook.codes.clone()
    codebook.follow(*codebook.usage(latents[:1] * 0, torch.zeros(1, dtype=torch.int64)))
    torch.testing.assert_close(codebook.codes[dead], alive[dead], rtol=1e-4, atol=1e-5)


def test_nothing_is_drawn_when_every_code_is_in_use() -> None:
    codebook = codebook_with(latents_of(0, 8))
    before = codebook.codes.clone()
    assert codebook.reseed_dead(latents_of(1, 30), dead_below=0.05, seed=0) == 0
    assert torch.equal(codebook.codes, before)


# Ranks


def learn(codebook: Codebook, batches: list[Tensor]) -> dict[str, Tensor]:
    """The whole life of a codebook: started, followed for some steps, dead codes set anew."""
    codebook.start_from(batches[0], seed=5)
    for latents in batches:
        codebook.follow(*codebook.usage(latents, codebook.assign(latents)))
    # High, so that several codes count as dead.
    assert codebook.reseed_dead(batches[-1], dead_below=0.95, seed=6) >= 4
    codebook.follow(*codebook.usage(batches[0], codebook.assign(batches[0])))
    return codebook.state_dict()


def latents_of_rank(rank: int, step: int) -> Tensor:
    """Uneven clusters, so that some codes are used little; the ranks see different ones."""
    return latents_of(100 * step + rank, 64) + 5 * (torch.arange(64) % (2 + rank))[:, None]


def one_rank(rank: int, world_size: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world_size)
    torch.manual_seed(1000 + rank)  # the ranks begin apart: what they share they must have sent
    codebook = Codebook(12, 4, learned_by_gradient=False, decay=0.8)
    state = learn(codebook, [latents_of_rank(rank, step) for step in range(STEPS)])
    torch.save(state, Path(folder, f"{rank}.pt"))
    largest = largest_sent(lambda: codebook.start_from(latents_of(rank, 10_000), seed=0, sample=50))
    reseeded = largest_sent(lambda: codebook.reseed_dead(latents_of(rank, 10_000), dead_below=2.0, seed=1))
    Path(folder, f"{rank}.json").write_text(json.dumps([largest, reseeded]))
    dist.destroy_process_group()


def largest_sent(act: Callable[[], object]) -> int:
    """Most numbers that a collective of torch takes at a time while something is done."""
    numbers: list[int] = []

    def counted(collective: Callable[..., Any]) -> Callable[..., Any]:
        def count(tensor: Tensor, *rest: Any, **settings: Any) -> Any:
            numbers.append(tensor.numel())
            return collective(tensor, *rest, **settings)

        return count

    with ExitStack() as stack:
        for name in ("all_reduce", "broadcast"):
            stack.enter_context(mock.patch.object(dist, name, counted(getattr(dist, name))))
        for name in ("all_gather", "all_gather_into_tensor", "gather", "reduce", "all_gather_object"):
            stack.enter_context(mock.patch.object(dist, name, side_effect=AssertionError("is not counted")))
        act()
    return max(numbers)


@pytest.mark.parametrize("world_size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_hold_one_codebook_that_is_the_codebook_of_all_their_latents(tmp_path: Path, world_size: int) -> None:
    mp.spawn(one_rank, (world_size, str(tmp_path)), nprocs=world_size)
    states = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(world_size)]
    for rank, state in enumerate(states):
        for name, tensor in state.items():
            assert torch.equal(tensor, states[0][name]), f"{name} differs between ranks"
        # Ranks have millions of latents in a step on whole tiles, and send those alone that are drawn.
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == [50 * 4, 12 * 4]
    together = Codebook(12, 4, learned_by_gradient=False, decay=0.8)
    everything = [torch.cat([latents_of_rank(rank, step) for rank in range(world_size)]) for step in range(STEPS)]
    for name, tensor in learn(together, everything).items():
        torch.testing.assert_close(
            states[0][name], tensor, rtol=1e-4, atol=1e-4, msg=f"{name} is not that of one process"
        )


@given(st.integers(0, 1000), st.sampled_from([0.01, 1.0, 30.0]))
@settings(max_examples=30)
def test_bf16_factors_give_the_distances_of_fp32(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = scale * torch.randn(40, 64, generator=generator)
    latents = codes[torch.randint(40, (200,), generator=generator)] + 0.1 * scale * torch.randn(
        200, 64, generator=generator
    )
    left, right = bf16_factors(latents, codes)
    assert left.dtype == right.dtype == torch.bfloat16
    assert left.shape[1] == right.shape[1]
    assert left.shape[1] % 8 == 0
    found = (left.double() @ right.double().T + latents.double().square().sum(1, keepdim=True)).amin(1)
    exact = torch.cdist(latents.double(), codes.double()).square().amin(1)
    products = latents.norm(dim=1).double() * float(codes.norm(dim=1).max())
    assert float(((found - exact).abs() / products).max()) < 2**-15
    scores, expected = found.clamp_min(0).sum().sqrt(), exact.sum().sqrt()
    assert float((scores - expected).abs() / expected) < 1e-4
