"""Collecting over real HTTP: the right positions, the cache, retries, and answers that must not be trusted."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stamina

from deltaserve.errors import MalformedTopK, UpstreamBusy, UpstreamRefused, UpstreamUnreachable
from deltaserve.offset_models.training.collecting.cache import TopKCache
from deltaserve.offset_models.training.collecting.fetching import fetch_top_k
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.scored import TopK
from tests.offset_models.training.unprobed import unprobed

pytestmark = pytest.mark.anyio
SAMPLES = [Sample((1, 2, 3), (4, 5)), Sample((7,), (8, 9, 10)), Sample((1, 2, 3), (6,))]


async def collect(
    samples: Sequence[Sample],
    url: str,
    cache: TopKCache,
    *,
    k: int = 5,
    concurrency: int = 4,
    advance: Callable[[], object] = lambda: None,
) -> list[TopK]:
    async with unprobed(url, k) as scorer:
        return await fetch_top_k(samples, scorer, cache, concurrency, advance)


def cache_in(folder: Path) -> TopKCache:
    return TopKCache(folder, "box", 5)


async def test_every_answer_position_gets_the_top_k_of_the_token_before_it(black_box: Any, tmp_path: Path) -> None:
    tops = await collect(SAMPLES, black_box.url, cache_in(tmp_path))
    for sample, top in zip(SAMPLES, tops, strict=True):
        before = sample.ids[len(sample.prompt_ids) - 1 : -1]
        for token, ids, logprobs in zip(before, top.ids, top.logprobs, strict=True):
            row = black_box.row(token)
            assert ids.tolist() == np.argsort(-row)[:5].tolist()
            np.testing.assert_allclose(logprobs, np.sort(row)[::-1][:5], rtol=1e-6)


async def test_what_is_cached_is_not_asked_again_even_by_another_process(black_box: Any, tmp_path: Path) -> None:
    first = await collect(SAMPLES[:2], black_box.url, cache_in(tmp_path))
    seen: list[None] = []
    again = await collect(SAMPLES, black_box.url, cache_in(tmp_path), advance=lambda: seen.append(None))
    assert len(black_box.calls) == len(SAMPLES) == len(seen)
    for one, other in zip(first, again, strict=False):
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.logprobs, other.logprobs)


async def test_another_k_is_another_cache(black_box: Any, tmp_path: Path) -> None:
    await collect(SAMPLES[:1], black_box.url, cache_in(tmp_path))
    (top,) = await collect(SAMPLES[:1], black_box.url, TopKCache(tmp_path, "box", 3), k=3)
    assert top.ids.shape == (2, 3)
    assert len(black_box.calls) == 2


async def test_a_call_to_a_busy_black_box_is_repeated(black_box: Any, tmp_path: Path) -> None:
    black_box.failures = [503, 429]
    with stamina.set_testing(True, attempts=5):
        await collect(SAMPLES[:1], black_box.url, cache_in(tmp_path))
    assert len(black_box.calls) == 3


async def test_one_that_stays_busy_fails_and_what_was_fetched_is_kept(black_box: Any, tmp_path: Path) -> None:
    await collect(SAMPLES[:1], black_box.url, cache_in(tmp_path))
    black_box.failures = [503] * 9
    with stamina.set_testing(True, attempts=2), pytest.raises(UpstreamBusy):
        await collect(SAMPLES[:2], black_box.url, cache_in(tmp_path), concurrency=1)
    assert cache_in(tmp_path).get(SAMPLES[0]) is not None


async def test_a_refusal_is_not_repeated(black_box: Any, tmp_path: Path) -> None:
    black_box.failures = [400]
    with pytest.raises(UpstreamRefused):
        await collect(SAMPLES[:1], black_box.url, cache_in(tmp_path))
    assert len(black_box.calls) == 1


async def test_a_port_without_a_server_is_an_upstream_error(tmp_path: Path) -> None:
    with stamina.set_testing(True, attempts=1), pytest.raises(UpstreamUnreachable):
        await collect(SAMPLES[:1], "http://127.0.0.1:9/v1", cache_in(tmp_path))


def shorten(positions: list[Any]) -> list[Any]:
    return positions[:-1]


def lose_one(positions: list[Any]) -> list[Any]:
    best = min(positions[-1], key=lambda token: positions[-1][token]["rank"])
    return [*positions[:-1], {token: entry for token, entry in positions[-1].items() if token != best}]


def unsort(positions: list[Any]) -> list[Any]:
    for entry in positions[-1].values():
        entry["logprob"] = -entry["rank"] % 3 - 5.0
    return positions


def nothing(positions: list[Any]) -> None:
    return None


@pytest.mark.parametrize("spoil", [shorten, lose_one, unsort, nothing])
async def test_a_malformed_answer_is_refused(black_box: Any, tmp_path: Path, spoil: Any) -> None:
    black_box.spoil = spoil
    with pytest.raises(MalformedTopK):
        await collect(SAMPLES[:1], black_box.url, cache_in(tmp_path))
