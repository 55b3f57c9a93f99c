"""Fixtures that every room's tests share."""

import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

# `make test` draws the same cases every time, so that a red run means a changed tree; `make test-slow` draws new ones.
settings.register_profile("steady", derandomize=True, database=None)
settings.register_profile("search", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

# Several workers share the cores already: a second torch thread in each, and in every server they start, only waits.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def structlog_as_it_was() -> Iterator[None]:
    """Commands and servers that run in this process set structlog up for all of it."""
    yield
    structlog.reset_defaults()
