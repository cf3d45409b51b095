"""A training goes on from a checkpoint as if nothing had happened."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ssvq.methods.build import build_method, method_settings
from ssvq.training.checkpoint import Position, check_in_step, load_best, load_checkpoint, save_checkpoint
from ssvq.training.engine import Engine
from tests.support.engines import engine_of, samples
from tests.support.surveys import tiny_training


def steps(engine: Engine, first: int, last: int) -> None:
    for step in range(first, last):
        engine.step(step, samples(4, 2 * step), samples(4, 2 * step + 1))


@pytest.mark.parametrize("settings", [{}, {"optimiser": {"weight_average": 0.9}}, {"method": "classifier"}])
def test_going_on_equals_never_having_stopped(tmp_path: Path, settings: dict[str, object]) -> None:
    whole, stopped, resumed = (engine_of(codebook={"reseed_every": 2}, **settings) for _ in range(3))
    for engine in (whole, stopped):
        engine.start(samples(4, 0))
    steps(whole, 0, 6)
    steps(stopped, 0, 3)
    position = Position(step=3, first_loss=2.5)
    position.offer(stopped, 3, 0.75)
    save_checkpoint(tmp_path, stopped, position)
    random = torch.get_rng_state()
    torch.rand(5)
    again = load_checkpoint(tmp_path, resumed)
    assert again == position
    assert torch.equal(torch.get_rng_state(), random)
    steps(resumed, 3, 6)
    for one, other in ((whole.method, resumed.method), (whole.scored, resumed.scored)):
        state = other.state_dict()
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, state[name]), name


def test_the_best_weights_are_kept_whatever_comes_after(tmp_path: Path) -> None:
    engine = engine_of()
    engine.start(samples(4, 0))
    position = Position()
    kept = {}
    for step, auroc in enumerate((0.6, 0.9, 0.7), start=1):
        steps(engine, step - 1, step)
        position.offer(engine, step, auroc)
        kept[step] = {name: tensor.clone() for name, tensor in engine.scored.state_dict().items()}
    assert (position.best_step, position.best_auroc) == (2, 0.9)
    save_checkpoint(tmp_path, engine, position)
    other = engine_of(seed=9)
    best = load_best(other, load_checkpoint(tmp_path, other))
    for name, tensor in best.state_dict().items():
        assert torch.equal(tensor, kept[2][name])


def test_of_equals_and_without_a_figure_the_latest_are_the_best() -> None:
    engine, position = engine_of(), Position()
    for step, auroc in enumerate((1.0, 1.0), start=1):
        position.offer(engine, step, auroc)
    assert position.best_step == 2
    position = Position()
    for step in (1, 2, 3):
        position.offer(engine, step, None)
    assert (position.best_step, position.best_auroc) == (3, None)


def one_rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    config = tiny_training(Path(folder), folder)
    method = build_method(config.method, method_settings(config))
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
