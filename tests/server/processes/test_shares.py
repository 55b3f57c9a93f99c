"""What the processes of one server are given, and when the engine process gives up."""

import asyncio
from types import SimpleNamespace

import pytest

from deltaserve.server.processes.engine import process as engine
from deltaserve.server.processes.frontend.process import share
from deltaserve.server.setting_sources import SettingsError
from deltaserve.server.settings import Settings, load_settings


def test_each_front_end_has_its_share_of_what_is_counted_where_it_happens() -> None:
    each = share(Settings(admin_requests_per_minute=100, local_draft_concurrent_positions=4, max_streams=5), 3)
    assert (each.admin_requests_per_minute, each.local_draft_concurrent_positions, each.most_streams) == (34, 2, 5)
    assert share(Settings(admin_requests_per_minute=1), 4).admin_requests_per_minute == 1


def test_front_ends_together_ask_an_upstream_no_more_than_it_takes() -> None:
    two = "http://127.0.0.1:1,http://127.0.0.1:2"
    each = share(Settings(upstream_url=two, upstream_calls_per_minute="100,0", upstream_calls_at_once="2"), 3)
    assert (each.upstream_calls_per_minute, each.upstream_calls_at_once) == ((33, 0), (1,))
    assert each.upstream_tokens_per_minute == ()


@pytest.mark.parametrize(("workers", "front_ends"), [("0", 0), ("1", 1), (3, 3)])
def test_the_operator_says_how_many_front_ends_there_are(workers: object, front_ends: int) -> None:
    assert load_settings(workers=workers).front_ends == front_ends


@pytest.mark.parametrize(("cores", "front_ends"), [(1, 0), (3, 0), (4, 1), (8, 2), (16, 4), (128, 4)])
def test_without_a_word_the_cores_decide(monkeypatch: pytest.MonkeyPatch, cores: int, front_ends: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert load_settings().front_ends == front_ends


@pytest.mark.parametrize("workers", ["many", "-1", "1.5", ""])
def test_a_number_that_is_none_is_refused(workers: str) -> None:
    with pytest.raises(SettingsError, match="workers"):
        load_settings(workers=workers)


def test_an_engine_process_whose_engine_has_died_ends() -> None:
    async def served(alive: bool) -> int:
        told = asyncio.Event()
        told.set()
        return await engine._until_told(told, SimpleNamespace(alive=alive))

    assert asyncio.run(served(True)) == 0
    assert asyncio.run(served(False)) == engine.FAILED
