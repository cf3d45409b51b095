"""Whitened colours have unit variance and no correlation, in every rank alike."""

from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from ssvq.config import Architecture
from ssvq.model.encoders.paper import PaperEncoder
from ssvq.model.whitening import ColourWhitening

TINY = Architecture(hidden=8, residual_hidden=4, residual_layers=1, codes=16, dimensions=4)
MIXED = torch.tensor([[1.0, 0.9, 0.8], [0.0, 0.2, 0.1], [0.0, 0.0, 0.1]])


def photographs(n: int, seed: int) -> Tensor:
    """Images whose channels nearly agree, of a mean that is not 0."""
    noise = torch.randn(n, 8, 8, 3, generator=torch.Generator().manual_seed(seed))
    return (noise @ MIXED + torch.tensor([0.5, -0.2, 0.1])).permute(0, 3, 1, 2)


def started(images: Tensor) -> ColourWhitening:
    whitening = ColourWhitening()
    whitening.start_from(images)
    return whitening


def covariance(images: Tensor) -> np.ndarray:
    return np.cov(images.movedim(1, 0).reshape(3, -1).double().numpy(), bias=True)


def test_colours_are_as_they_are_until_measured() -> None:
    images = photographs(2, 0)
    assert torch.equal(ColourWhitening()(images), images)


def test_whitened_colours_have_unit_variance_and_no_correlation() -> None:
    images = photographs(6, 0)
    whitening = started(images)
    np.testing.assert_allclose(covariance(whitening(images)), np.eye(3), atol=1e-4)
    torch.testing.assert_close(whitening.matrix, whitening.matrix.T)  # ZCA: red stays the nearest to red
    assert (torch.linalg.eigvalsh(whitening.matrix) > 0).all()


def test_colours_that_do_not_correlate_stay() -> None:
    images = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(started(images).matrix, torch.eye(3), rtol=0, atol=0.05)


def test_grey_images_and_flat_ones_stay_finite() -> None:
    grey = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1, -1)
    assert started(grey)(grey).abs().max() < 10
    assert torch.isfinite(started(torch.zeros(2, 3, 8, 8)).matrix).all()


def test_small_differences_survive_autocast() -> None:
    images = photographs(6, 0)
    whitening = started(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(whitening(images), whitening(images.float()))
        assert whitening(images).dtype == torch.float32


def test_the_encoder_measures_where_it_is_wanted() -> None:
    for wanted in (True, False):
        encoder = PaperEncoder(TINY.model_copy(update={"whiten_colours": wanted}))
        encoder.start(photographs(4, 0))
        assert torch.equal(encoder.whitening.matrix, torch.eye(3)) != wanted


def test_the_encoder_sees_whitened_colours() -> None:
    images = photographs(4, 0)
    torch.manual_seed(0)
    encoder = PaperEncoder(TINY)
    encoder.start(images)
    whitened = encoder.whitening(images)
    latents = encoder(images)
    encoder.whitening = ColourWhitening()
    torch.testing.assert_close(latents, encoder(whitened))


def test_a_model_from_before_takes_colours_as_they_are() -> None:
    weights = PaperEncoder(TINY).state_dict()
    del weights["whitening.matrix"]
    encoder = PaperEncoder(TINY)
    encoder.start(photographs(4, 0))
    encoder.load_state_dict(weights)
    assert torch.equal(encoder.whitening.matrix, torch.eye(3))


def one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(started((1 + rank) * photographs(4, rank)).matrix, Path(folder, f"{rank}.pt"))
    dist.destroy_process_group()


def test_ranks_hold_one_matrix_that_is_that_of_all_their_images(tmp_path: Path) -> None:
    mp.spawn(one_rank, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert torch.equal(first, second)
    together = started(torch.cat([photographs(4, 0), 2 * photographs(4, 1)])).matrix
    torch.testing.assert_close(first, together, rtol=1e-4, atol=1e-4)
