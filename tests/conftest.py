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


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def structlog_as_it_was() -> Iterator[None]:
    """Commands and servers that run in this process set structlog up for all of it."""
    yield
    structlog.reset_defaults()
