"""What tests share: one local Ray cluster, the real images, tiny images made in code."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support.images import REPOSITORY

# Before anything imports Ray: no token file is made, and nothing is asked of a real cluster.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ.pop("RAY_ADDRESS", None)

# Machines are shared: how long one example takes says nothing.
hypothesis.settings.register_profile("ssvq", deadline=None, max_examples=50)
hypothesis.settings.register_profile("lowest", deadline=None, max_examples=5)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ssvq"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what drives a browser."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray cluster for all tests that need one."""
    from ssvq.runtime.session import ray_session

    with ray_session(debug=False, min_cpus=6):
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; tests that use it are skipped where it is missing."""
    folder = Path(os.environ.get("SSVQ_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set SSVQ_TEST_DATA")
    return folder


@pytest.fixture
def browser() -> Iterator[Any]:
    """Debian's Chromium, headless."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("no `chromium` on this machine (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield chromium
        chromium.close()
