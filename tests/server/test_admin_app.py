"""The admin routes at an address of their own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2 as httpx
import pytest

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.app import create_app, make_server
from deltaserve.server.serving.ports import Backends
from deltaserve.server.settings import Settings
from tests.support.administration import ADMIN_KEY, bearer
from tests.support.app import FlatVersion, OneVersion, ScriptedBlackBox, byte_tokenizer, eventually
from tests.support.process import free_port


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@contextmanager
def listening(tokenizer: Tokenizer, **settings: Any) -> Iterator[str]:
    """As `deltaserve serve` listens; gives the public address."""
    given = Settings(port=free_port(), admin_key=ADMIN_KEY, **settings)
    app = create_app(given, backends=Backends(ScriptedBlackBox(), OneVersion(FlatVersion(tokenizer)), "tiny"))
    server = make_server(app, given)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started or not thread.is_alive())
        yield f"http://127.0.0.1:{given.port}"
    finally:
        server.should_exit = True
        thread.join(5)
        assert not thread.is_alive()


def test_with_an_address_of_their_own_the_admin_routes_are_nowhere_else(tokenizer: Tokenizer) -> None:
    port = free_port()
    admin, headers = f"http://127.0.0.1:{port}", bearer(ADMIN_KEY)
    with listening(tokenizer, admin_port=port) as public:
        assert httpx.get(f"{public}/admin/upstream", headers=headers).status_code == 404
        assert httpx.get(f"{admin}/admin/upstream", headers=headers).json()["capabilities"]["dialect"] == "vllm"
        assert httpx.get(f"{admin}/admin/upstream").status_code == 401
        assert httpx.get(f"{admin}/v1/models", headers=headers).status_code == 404
        assert httpx.get(f"{public}/v1/models").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{admin}/admin/upstream")


def test_without_one_they_are_beside_the_public_ones(tokenizer: Tokenizer) -> None:
    with listening(tokenizer) as public:
        assert httpx.get(f"{public}/admin/upstream", headers=bearer(ADMIN_KEY)).status_code == 200
