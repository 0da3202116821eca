"""Fixtures that many tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests run side by side: threads of their own would only get in each other's way.
    for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(_name, "1")

import pytest
from hypothesis import settings

from cytomask.progress import set_quiet

# The first example of a test may wait for a kernel to be compiled: that is no fault.
# The same code is given the same examples.
settings.register_profile("untimed", deadline=None, derandomize=True)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _progress_is_told() -> Iterator[None]:
    """A command that a test runs with ``--quiet`` does not silence the tests after it."""
    set_quiet(False)
    yield
    set_quiet(False)


SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real annotated micrographs; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared micrographs are not here (a folder `shared/data` beside the checkout)")
    return SHARED_DATA
