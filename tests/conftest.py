"""Fixtures that every room's tests share."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def structlog_as_it_was() -> Iterator[None]:
    """Commands and servers that run in this process set structlog up for all of it."""
    yield
    structlog.reset_defaults()
