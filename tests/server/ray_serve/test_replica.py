"""A replica as Ray asks it: what Ray replaces it for, and what it only sends no requests for."""

from pathlib import Path
from typing import Any, cast

import pytest

from deltaserve.errors import Unavailable
from deltaserve.server.ray_serve.loopback import LoopbackOnly
from deltaserve.server.ray_serve.options import settings_of
from deltaserve.server.ray_serve.replica import RayReplica
from deltaserve.server.serving.ports import Registry

pytestmark = pytest.mark.anyio


def replica(tmp_path: Path, **more: Any) -> RayReplica:
    given = {"offsets_root": str(tmp_path), "fleet_store": "file", "max_streams": 4}
    return RayReplica(settings_of(given | more, "r1"))


class Engine:
    """A registry of which nothing is asked but whether it runs, and whether an answer may begin."""

    def __init__(self, alive: bool, fenced: str | None = None) -> None:
        self.alive = alive
        self._fenced = fenced

    def pinned(self, model: str | None) -> Any:
        if self._fenced is not None:
            raise Unavailable(self._fenced)
        raise NotImplementedError


async def test_a_replica_whose_engine_has_ended_is_replaced(tmp_path: Path) -> None:
    one = replica(tmp_path)
    await one.require_sound()  # it has no engine yet
    one._serving.registry = cast(Registry, Engine(alive=False))
    with pytest.raises(Unavailable, match="the offset engine is not running"):
        await one.require_sound()


async def test_a_fenced_replica_gets_no_requests_and_is_not_replaced(tmp_path: Path) -> None:
    one = replica(tmp_path)
    one._serving.registry = cast(Registry, Engine(alive=True, fenced="its last contact is too long ago"))
    await one.require_sound()
    assert await one.readiness() == {"ready": False}


async def test_a_mistake_in_user_config_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = replica(tmp_path)
    one.wish({"offset": "b"})
    assert "change: Field required" in caplog.text
    one.wish({"offset": "b", "change": 1})  # before the fleet is reached: Ray gives it once more


def test_without_keys_only_this_machine_may_ask(tmp_path: Path) -> None:
    assert next(layer.cls for layer in replica(tmp_path).app.user_middleware) is LoopbackOnly


def test_with_keys_they_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTASERVE_API_KEYS", "key")
    assert LoopbackOnly not in [layer.cls for layer in replica(tmp_path).app.user_middleware]


@pytest.mark.parametrize(
    ("server", "status"),
    [
        (("127.0.0.1", 8000), 200),
        (("::1", 8000), 200),
        (("10.0.0.7", 8000), 403),
        (("proxy", 8000), 403),
        (None, 403),
    ],
)
async def test_who_comes_by_another_address_is_told_what_to_set(server: Any, status: int) -> None:
    sent: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    await LoopbackOnly(inner)({"type": "http", "server": server}, receive, send)
    assert sent[0]["status"] == status
    if status == 403:
        assert b"DELTASERVE_API_KEYS_FILE" in sent[1]["body"]
