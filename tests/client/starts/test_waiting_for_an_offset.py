"""A server that is started without an offset, to be given one by an administrator."""

from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from deltaserve.client.admin import AdminClient
from tests.support.blackbox import blackbox
from tests.support.demo_weights import OFFSET
from tests.support.process import environment_without_settings, forked, free_port
from tests.support.starts import WITHIN_S, Place, given


@pytest.fixture
def blackbox_url(weights: Path) -> Iterator[str]:
    with blackbox(weights / "blackbox") as process:
        yield process.url


def test_a_server_with_an_admin_key_and_no_offset_waits_for_a_load_and_says_so(place: Place, blackbox_url: str) -> None:
    place.options |= {"upstream-url": blackbox_url, "port": str(free_port()), "torch-threads": "1"}
    place.options |= {"max-context": "128", "connect-timeout-s": "0.2", "state-folder": str(place.folder / "state")}
    del place.options["offset"]
    environment = environment_without_settings() | {"DELTASERVE_ADMIN_KEY": "admin"}
    url = f"http://127.0.0.1:{place.options['port']}"
    server = forked("deltaserve", "serve", *given(place.options), env=environment)
    with server as process, AdminClient(url, api_key="admin") as client:
        with httpx.Client(base_url=url) as plain:
            process.wait_until_ok(plain, "/health/live", WITHIN_S)
            client.load("loaded", OFFSET, activate=True)
            process.wait_until_ok(plain, "/health/ready", WITHIN_S)
        waiting = [line for line in process.lines if "No offset is active" in line]
    assert len(waiting) == 1 and "deltaserve offsets load NAME PATH --activate" in waiting[0]
