"""Which settings decide a training, so that the same output is taken up again."""

from typing import Any

import pytest

from ssvq.config import TrainConfig


def config(**settings: Any) -> TrainConfig:
    return TrainConfig(images="/photographs", out="/bundle", **settings)


def identity(made: TrainConfig) -> dict[str, Any]:
    return TrainConfig.identity(made.saved())


@pytest.mark.parametrize(
    "settings",
    [
        {"num_workers": 2},
        {"loaders": 5},
        {"device": "cpu"},
        {"tile_cache": "/elsewhere"},
        {"storage_timeout": 5.0},
        {"log_every": 3},
        {"read": {"seconds": 1}},
    ],
)
def test_how_a_job_runs_does_not_decide_what_it_makes(settings: dict[str, Any]) -> None:
    assert identity(config(**settings)) == identity(config())


@pytest.mark.parametrize(
    "settings",
    [{"steps": 7}, {"seed": 1}, {"architecture": {"codes": 16}}, {"precision": "fp32"}, {"method": "ss-vae"}],
)
def test_what_is_learned_and_how_decides(settings: dict[str, Any]) -> None:
    assert identity(config(**settings)) != identity(config())


def test_an_output_that_was_begun_before_a_setting_existed_is_taken_up() -> None:
    saved = config(steps=7).saved()
    earlier = {name: value for name, value in saved.items() if name != "decide_by"}
    earlier["architecture"] = {name: value for name, value in earlier["architecture"].items() if name != "codes"}
    assert TrainConfig.identity(earlier) == TrainConfig.identity(saved)
    assert TrainConfig.identity(earlier) != identity(config(steps=7, decide_by="score_worst"))


def test_a_default_that_has_changed_since_is_another_setting() -> None:
    earlier = config().saved() | {"steps": 450}
    assert TrainConfig.identity(earlier) != identity(config())
