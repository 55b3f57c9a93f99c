"""What the black box says along the training text: its top-k at every answer position, fetched once and cached."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import orjson
import stamina
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from offset_models.training.data import Sample
from server.errors import (
    MalformedTopK,
    UpstreamBusy,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)

SHARD = 256  # samples written at a time: what a kill may lose


@dataclass(frozen=True, slots=True)
class TopK:
    """The black box's k best at each answer position, best first."""

    ids: NDArray[np.int64]  # [answer, k]
    logprobs: NDArray[np.float32]  # [answer, k] nats, normalised over the whole vocabulary


@dataclass(frozen=True, slots=True)
class Source:
    """Which black box, and how hard it may be asked."""

    url: str  # ends in /v1
    model: str
    k: int = 20
    concurrency: int = 4
    timeout_s: float = 60.0
    api_key: str | None = None


class TopKCache:
    """Columnar shards on disk, keyed by sample digest, model and k. Holds ids and logprobs, no text."""

    def __init__(self, folder: Path, model: str, k: int) -> None:
        self._folder = folder / f"{model.replace('/', '--')}-k{k}"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._rows: dict[bytes, TopK] = {}
        self._unsaved: dict[bytes, TopK] = {}
        self._shards = sorted(self._folder.glob("*.safetensors"))
        for shard in self._shards:
            self._rows.update(_read_shard(shard))

    def get(self, sample: Sample) -> TopK | None:
        return self._rows.get(sample.digest)

    def put(self, sample: Sample, top: TopK) -> None:
        self._rows[sample.digest] = self._unsaved[sample.digest] = top
        if len(self._unsaved) >= SHARD:
            self.flush()

    def flush(self) -> None:
        """Write what is not on disk yet, as one more shard."""
        if not self._unsaved:
            return
        path = self._folder / f"{len(self._shards):06d}.safetensors"
        _write_shard(path, self._unsaved)
        self._shards.append(path)
        self._unsaved = {}


async def collect(
    samples: Sequence[Sample], source: Source, cache: TopKCache, advance: Callable[[], None] = lambda: None
) -> list[TopK]:
    """Top-k of every sample, in order; only those not cached are asked for. Raises errors of the UpstreamError branch.

    `advance` is called once per sample. What was fetched before a failure is kept.
    """
    missing = {sample.digest: sample for sample in samples if cache.get(sample) is None}
    for _ in range(len(samples) - len(missing)):
        advance()
    limit = asyncio.Semaphore(source.concurrency)
    try:
        async with _client(source) as client, asyncio.TaskGroup() as tasks:
            for sample in missing.values():
                tasks.create_task(_fetch(client, source, sample, cache, limit, advance))
    except* UpstreamError as failures:
        raise _first(failures) from None
    finally:
        cache.flush()
    return [top for sample in samples if (top := cache.get(sample)) is not None]


async def score(client: httpx.AsyncClient, source: Source, sample: Sample) -> TopK:
    """One call: the top-k of a sample's answer positions by vLLM's `prompt_logprobs`."""
    body = {
        "model": source.model,
        "prompt": sample.ids,
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": source.k,
        "return_tokens_as_token_ids": True,
    }
    positions = (await _post(client, body))["choices"][0].get("prompt_logprobs")
    if not isinstance(positions, list) or len(positions) != len(sample.ids):
        raise MalformedTopK("The black box gave no prompt logprobs for every position of the prompt.")
    rows = [_best(position, source.k) for position in positions[len(sample.prompt_ids) :]]
    ids, logprobs = zip(*rows, strict=True)
    return TopK(np.array(ids, np.int64), np.array(logprobs, np.float32))


def _best(position: Mapping[str, Mapping[str, Any]] | None, k: int) -> tuple[list[int], list[float]]:
    """The k best of one position; vLLM adds the prompt's own token when it is not among them."""
    ranked = sorted((entry["rank"], int(token), entry["logprob"]) for token, entry in (position or {}).items())
    best = [(token, logprob) for rank, token, logprob in ranked if rank <= k]
    logprobs = [logprob for _, logprob in best]
    if len(best) != k or not np.all(np.isfinite(logprobs)) or logprobs != sorted(logprobs, reverse=True):
        raise MalformedTopK(f"A position of the prompt did not come with its {k} most probable tokens, best first.")
    return [token for token, _ in best], logprobs


async def _fetch(
    client: httpx.AsyncClient,
    source: Source,
    sample: Sample,
    cache: TopKCache,
    limit: asyncio.Semaphore,
    advance: Callable[[], None],
) -> None:
    async with limit:
        cache.put(sample, await score(client, source, sample))
    advance()


def _client(source: Source) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {source.api_key}"} if source.api_key else {}
    return httpx.AsyncClient(base_url=source.url, headers=headers, timeout=source.timeout_s)


@stamina.retry(on=(UpstreamUnreachable, UpstreamBusy), attempts=5)
async def _post(client: httpx.AsyncClient, body: Mapping[str, Any]) -> dict[str, Any]:
    try:
        response = await client.post(
            "completions", content=orjson.dumps(body), headers={"Content-Type": "application/json"}
        )
    except httpx.TimeoutException as error:
        raise UpstreamTimeout("The black box did not answer in time.") from error
    except httpx.TransportError as error:
        raise UpstreamUnreachable("The black box cannot be reached.") from error
    if response.status_code in (429, 503):
        raise UpstreamBusy("The black box is busy.")
    if response.status_code != 200:
        raise UpstreamRefused(f"The black box answered {response.status_code} to a scoring request.")
    answer: dict[str, Any] = orjson.loads(response.content)
    return answer


def _first(failures: BaseExceptionGroup[UpstreamError]) -> UpstreamError:
    first: BaseException = failures
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if not isinstance(first, UpstreamError):
        raise first
    return first


def _write_shard(path: Path, rows: Mapping[bytes, TopK]) -> None:
    """Written beside and renamed, so that a kill leaves a whole shard or none."""
    columns: dict[str, NDArray[Any]] = {
        "digests": np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 32),
        "lengths": np.array([len(top.ids) for top in rows.values()], np.int32),
        "ids": np.concatenate([top.ids for top in rows.values()]).astype(np.int32),
        "logprobs": np.concatenate([top.logprobs for top in rows.values()]),
    }
    partial = path.with_suffix(".partial")
    save_file(columns, partial)
    partial.replace(path)


def _read_shard(path: Path) -> dict[bytes, TopK]:
    columns = load_file(path)
    stops = np.cumsum(columns["lengths"])[:-1]
    ids, logprobs = np.split(columns["ids"].astype(np.int64), stops), np.split(columns["logprobs"], stops)
    digests = [row.tobytes() for row in columns["digests"]]
    return {digest: TopK(i, p) for digest, i, p in zip(digests, ids, logprobs, strict=True)}
