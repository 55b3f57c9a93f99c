"""The demo's weights, as real servers serve them."""

import os
from pathlib import Path

import pytest

from offset_models.demo.manifest import WEIGHTS


@pytest.fixture(scope="session")
def weights() -> Path:
    """blackbox/, base/ and registry-erasure/; E2E_WEIGHTS names another build of them."""
    return Path(os.environ.get("E2E_WEIGHTS", WEIGHTS))


@pytest.fixture(scope="session")
def checkpoint(weights: Path) -> Path:
    return weights / "registry-erasure"
