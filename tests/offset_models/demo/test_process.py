"""A black box that cannot start says so instead of hanging."""

from pathlib import Path

import pytest

from deltaserve.errors import UpstreamUnreachable
from deltaserve.offset_models.demo.process import serving

pytestmark = pytest.mark.anyio


async def test_a_process_that_ends_early_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UpstreamUnreachable, match="ended before it was ready"):
        async with serving(tmp_path, "--slots", "0"):
            pytest.fail("served without a slot")
