"""The rows of `make drill-swap` in small, over the same real processes; figures of time are left to the drill."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.support.processes import Running, black_box
from benchmarks.swap.crashes import crash
from benchmarks.swap.hostile import KINDS, hostile
from benchmarks.swap.loading import memory_ratio
from benchmarks.swap.server import server
from benchmarks.swap.site import NAMES, Site, make_site
from benchmarks.swap.streams import Crowd, Got, asks, torn, wrong
from benchmarks.swap.swapping import Plan, swap
from tests.support.blackbox import make_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("drill")
    return make_site(folder, black_box=make_model(folder / "blackbox"), base=make_model(folder / "own", seed=5))


@pytest.fixture(scope="module")
def upstream(site: Site) -> Iterator[str]:
    with black_box("--ms-per-token", "5", weights=site.black_box.parent) as running:
        yield running.url


@pytest.fixture(scope="module")
def running(site: Site, upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with server(site, upstream, tmp_path_factory.mktemp("state")) as started:
        yield started


def test_swaps_under_streaming_clients_tear_and_mix_nothing(site: Site, running: Running) -> None:
    seen = asyncio.run(swap(running.url, site, Plan(swaps=12, clients=4, tokens=16, seeds=2, pause_s=0.05)))
    assert (len(seen.swap_ms), seen.torn, seen.wrong, seen.late) == (12, 0, 0, 0)
    answered = {fingerprint for got in seen.answers for fingerprint in got.fingerprints}
    assert len(answered) == len(NAMES), "every version must have answered, or nothing was shown"
    said = {tuple(ids) for ids in seen.known.values()}
    assert len(said) > len(seen.known) * 0.9, "the versions must differ in what they say, or nothing was shown"


def test_a_stream_of_another_version_or_half_a_stream_would_be_noticed(site: Site) -> None:
    ask = asks(site.prompts, 1, 3)[0]
    known = {("ds-one", ask): [1, 2, 3], ("ds-two", ask): [1, 2, 4]}
    right = Got(ask, [1, 2, 3], [], {"ds-one"}, whole=True)
    mixed = [
        Got(ask, [1, 2, 4], [], {"ds-one"}, whole=True),
        Got(ask, [1, 2, 3], [], {"ds-one", "ds-two"}, whole=True),
        Got(ask, [1, 2, 3], [], {"ds-three"}, whole=True),
    ]
    assert (wrong([right], known), wrong(mixed, known), torn([right, Got(ask, [1])])) == (0, 3, 1)


def test_loading_and_unloading_gives_the_memory_back(running: Running) -> None:
    ratio, _ = asyncio.run(memory_ratio(running, cycles=4))
    assert ratio < 1.03


def test_hostile_checkpoints_are_refused_each_with_its_own_sentence(site: Site, running: Running) -> None:
    async def beside_streams() -> tuple[dict[str, str], int]:
        crowd = Crowd(running.url, asks(site.prompts, 1, 16), 2)
        async with crowd:
            said = await hostile(running.url, site.root)
        return said, torn(crowd.answers)

    said, broken = asyncio.run(beside_streams())
    assert set(said) == set(KINDS) and "" not in said.values() and broken == 0
    assert len(set(said.values())) == len(KINDS)


def test_a_server_killed_while_it_swaps_comes_back_with_old_or_new(site: Site, upstream: str, tmp_path: Path) -> None:
    seen = asyncio.run(crash(lambda: server(site, upstream, tmp_path / "state"), kills=2))
    assert (seen.bad, seen.kills) == ([], 2)
    assert seen.swaps > 0
