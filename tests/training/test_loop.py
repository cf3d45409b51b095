"""The parts of the training loop that can be told apart from Ray Train."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ssvq.methods import DEFAULT_METHOD, build_method
from ssvq.methods.base import method_config
from ssvq.training.loop import check_in_step, learning_rate
from tests.surveys import tiny_training


def one_rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    config = tiny_training(Path(folder), folder)
    method = build_method(DEFAULT_METHOD, method_config(config))
    check_in_step(method)
    if rank == 1:
        method.get_buffer("codebook.codes")[0, 0] += 1e-6
    try:
        check_in_step(method)
    except RuntimeError as error:
        Path(folder, str(rank)).write_text(str(error))
    dist.destroy_process_group()


def test_ranks_that_drift_apart_are_found(tmp_path: Path) -> None:
    mp.spawn(one_rank, (str(tmp_path),), nprocs=2)
    for rank in ("0", "1"):
        assert "no longer hold the same weights and codebook" in (tmp_path / rank).read_text()


def test_learning_rates(tmp_path: Path) -> None:
    cosine = tiny_training(tmp_path, tmp_path, steps=100)
    assert learning_rate(cosine, 0) == cosine.optimiser.learning_rate
    assert learning_rate(cosine, 50) == pytest.approx(cosine.optimiser.learning_rate / 2)
    assert learning_rate(cosine, 99) < 1e-6
    constant = tiny_training(tmp_path, tmp_path, optimiser={"schedule": "constant", "learning_rate": 0.5})
    assert learning_rate(constant, 5) == 0.5
