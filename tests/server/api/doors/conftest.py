"""Anthropic's own client before the module's app."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.app import RunningApp


@pytest.fixture(scope="module")
def claude(app: RunningApp) -> Iterator[Any]:
    """Imported where a test asks for it: each worker that only collects would take seconds for it."""
    from anthropic import Anthropic

    with Anthropic(base_url=app.url, api_key="none", max_retries=0) as made:
        yield made
