"""What is decided for the user: the encoder by method, labels and size, and the length of the training after it."""

from typing import Any

import pytest

from ssvq.config import TrainConfig
from ssvq.errors import InputError
from ssvq.model.encoders import PACKAGED
from ssvq.training.defaults import check_sides, resolved


def config_of(**changes: Any) -> TrainConfig:
    return TrainConfig(images="/i", masks="/m", out="/o", **changes)


@pytest.mark.parametrize(
    ("changes", "labelled", "encoder"),
    [
        ({}, True, PACKAGED),
        ({}, False, "paper"),
        ({"method": "deep-svdd"}, True, "paper"),
        ({"crop": 64}, True, "paper"),
        ({"crop": 128}, True, PACKAGED),
        ({"architecture": {"encoder": "paper"}}, True, "paper"),
        ({"architecture": {"encoder": "wide_resnet50_2"}}, False, "wide_resnet50_2"),
        ({"architecture": {"hidden": 16}}, True, PACKAGED),
    ],
)
def test_the_encoder(changes: dict[str, Any], labelled: bool, encoder: str) -> None:
    found, line = resolved(config_of(**changes), labelled=labelled)
    assert found.architecture.encoder == encoder
    assert line.startswith(f"encoder {encoder}: ")


def test_a_pretrained_network_learns_in_few_steps_and_by_cell() -> None:
    found, _ = resolved(config_of(), labelled=True)
    assert (found.steps, found.batch_size, found.crop, found.validate_every) == (200, 64, 256, 50)
    assert (found.objective.labels, found.architecture.scale) == ("cell", 0.5)
    whole, _ = resolved(config_of(whole_images=True, tile_size=256), labelled=True)
    assert (whole.crop, whole.architecture.scale, whole.batch_size) == (None, 1.0, 64)


def test_what_is_set_stays() -> None:
    found, _ = resolved(config_of(steps=7, batch_size=10, crop=128, objective={"labels": "tile"}), labelled=True)
    assert (found.steps, found.batch_size, found.crop, found.objective.labels) == (7, 10, 128, "tile")


def test_the_papers_encoder_has_the_papers_training() -> None:
    found, _ = resolved(config_of(), labelled=False)
    assert (found.steps, found.batch_size, found.crop, found.objective.labels) == (15_000, 128, None, "tile")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tile_size": 510}, "--tile-size 510 is not a multiple of the latent cell of 4 pixels"),
        ({"crop": 30}, "--crop 30 is not a multiple"),
        (
            {"tile_size": 500, "architecture": {"encoder": PACKAGED}},
            "--tile-size 500 is not a multiple of the cell",
        ),
    ],
)
def test_sizes_are_whole_numbers_of_cells(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        check_sides(config_of(**changes))
