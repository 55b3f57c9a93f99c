"""Which replica gets a request, as Ray's proxies ask it (they need Ray: make e2e-ray)."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@dataclass(frozen=True)
class One:
    """What is asked of a running replica."""

    replica_id: str
    routing_stats: dict[str, bool] = field(default_factory=dict, hash=False)


def ranks(replicas: list[One], session: str = "") -> list[list[One]]:
    from deltaserve.server.ray_serve.routing import ReadyFirst

    request: Any = SimpleNamespace(
        metadata=SimpleNamespace(session_id=session), routing_context=SimpleNamespace(should_backoff=False)
    )
    router: Any = object.__new__(ReadyFirst)
    chosen: list[list[One]] = asyncio.run(router.choose_replicas(replicas, request))
    assert request.routing_context.should_backoff  # else Ray would ask again without a pause
    return chosen


def test_a_fenced_replica_gets_no_request_while_another_one_is_ready() -> None:
    fenced, ready, new = One("a", {"ready": False}), One("b", {"ready": True}), One("c")
    for session in ("", *map(str, range(20))):
        asked = {one for rank in ranks([fenced, ready, new], session) for one in rank}
        assert asked == {ready, new}


def test_where_none_is_ready_one_of_them_says_why() -> None:
    fenced = [One("a", {"ready": False}), One("b", {"ready": False})]
    assert len(ranks(fenced)[0]) == 2


def test_without_a_session_two_are_drawn() -> None:
    replicas = [One(str(number)) for number in range(10)]
    drawn = {one for _ in range(200) for one in ranks(replicas)[0]}
    assert drawn == set(replicas)
    assert {len(ranks(replicas)[0]) for _ in range(5)} == {2}


def test_a_replica_that_comes_moves_only_the_sessions_that_become_its_own() -> None:
    replicas = [One(str(number)) for number in range(4)]
    sessions = [f"session-{number}" for number in range(200)]
    before = {session: ranks(replicas, session)[0][0] for session in sessions}
    new = One("new")
    after = {session: ranks([new, *replicas], session)[0][0] for session in sessions}
    moved = [session for session in sessions if after[session] != before[session]]
    assert 15 < len(moved) < 75  # a fifth
    assert {after[session] for session in moved} == {new}
    assert len(set(before.values())) == 4
