"""What the efficiencies of benchmarks/scaling.py are made of."""

import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.scaling import SleepingScorer, Work
from ssvq.model.description import Preprocessing

# Two scorers of 10 tiles a second. The first waits from 2 to 3; the second begins at 1, and ends first.
WORK = Work([[(0.0, 2.0, 20), (3.0, 5.0, 20)], [(1.0, 4.0, 30)]])


def test_tiles_of_calls_within_a_window_and_of_those_that_reach_into_it() -> None:
    assert WORK.tiles(0, 5) == 70
    assert WORK.tiles(2, 3) == pytest.approx(10)  # the second alone
    assert WORK.tiles(1, 4) == pytest.approx(10 + 10 + 30)
    assert WORK.tiles(6, 9) == 0


def test_the_window_in_which_all_are_at_work() -> None:
    assert (WORK.all_began, WORK.first_to_end) == (1.0, 4.0)


def test_a_sleeping_scorer_takes_the_time_of_its_tiles_and_notes_it(tmp_path: Path) -> None:
    scorer = SleepingScorer(tmp_path, 100.0, Preprocessing(tile_size=32, mean=(0, 0, 0), std=(1, 1, 1)))
    called = time.time()
    scores = scorer.score(np.zeros((5, 32, 32, 3), np.uint8))
    scorer.score(np.zeros((3, 512, 512, 3), np.uint8))
    assert scores.score.shape == scores.score_max.shape == (5,)
    assert scores.score_map is not None
    assert scores.score_map.shape == (5, 8, 8)
    ((first, second),) = Work.read(tmp_path).calls
    assert [first[2], second[2]] == [5, 3]
    assert called <= first[0] <= first[1] - 0.05 <= second[0] <= second[1] - 0.03
