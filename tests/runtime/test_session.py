"""How a job connects to Ray."""

import pytest

from ssvq import logs
from ssvq.io import storage
from ssvq.runtime.session import connection


def test_workers_of_a_cluster_are_handed_settings_and_nothing_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    monkeypatch.setenv(storage.TIMEOUT_VARIABLE, "30")
    monkeypatch.setenv(logs.INHERITED, "json")
    monkeypatch.setenv("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")
    options = connection("ray-head:6379", debug=True)
    assert options["runtime_env"] == {"env_vars": {storage.TIMEOUT_VARIABLE: "30", logs.INHERITED: "json"}}
    assert "planted" not in str(options)


def test_without_an_address_ray_is_started_here_whatever_else_runs() -> None:
    """Not joined: another's Ray may have other versions and no room, and one that died leaves its address behind."""
    assert connection(None, debug=False)["address"] == "local"
    assert connection(None, debug=False, min_cpus=1000)["num_cpus"] == 1000
