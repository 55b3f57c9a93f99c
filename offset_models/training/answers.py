"""Greedy answers of the black box and of the corrected one, through the decoding that also serves requests."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch

from deltaserve.errors import BadRequest, NoOffset
from deltaserve.offset_models.engine.settings import EngineSettings
from deltaserve.offset_models.metrics.overlap import overlap
from deltaserve.offset_models.registry.registry import Registry
from deltaserve.offset_models.registry.version import Version
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.bridging.prompts import OtherTokenizer
from deltaserve.offset_models.training.collecting.source import Source, retried
from deltaserve.offset_models.training.rows.scored import Scored
from deltaserve.server.decoding.decoder import decode
from deltaserve.server.decoding.drafting.upstream import UpstreamSource
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.serving.local_registry import LocalRegistry
from deltaserve.server.serving.ports import Backends
from deltaserve.server.serving.versions import default_dtype, json_object, longest_context, open_versions
from deltaserve.server.upstream.base import ProbedUpstream
from deltaserve.server.upstream.http.transport import Timeouts
from deltaserve.server.upstream.listing.greedy import greedy_answer
from deltaserve.server.upstream.pool.pool import sole
from deltaserve.server.upstream.probing.connect import connect

STREAMS: Final = 4  # answers at a time


@dataclass(frozen=True, slots=True)
class ServedCheckpoint:
    """A loaded checkpoint in front of a probed black box."""

    version: Version
    backends: Backends
    max_tokens: int
    context: int  # tokens of prompt and answer that all three models can hold
    box: OtherTokenizer | None = None  # the black box's, where it is not the pair's

    async def before(self, prompts: Sequence[Sequence[int]], advance: Callable[[], object]) -> list[str]:
        """The black box's own answers."""
        return await own_answers(
            self.backends.upstream, self.version.tokenizer, prompts, self.max_tokens, advance, self.context
        )

    async def after(self, prompts: Sequence[Sequence[int]], advance: Callable[[], object]) -> list[str]:
        """The corrected ones."""
        return await _all(self.version.tokenizer, prompts, self._corrected, advance)

    async def _corrected(self, ids: Sequence[int]) -> Sequence[int]:
        params = SamplingParams(max_tokens=min(self.max_tokens, self.context - len(ids)), temperature=0.0)
        own = None if self.box is None else self.box.prompts.get(tuple(ids))
        async with self.backends.stream(self.version, ids, params, pair_prompt=own) as stream:
            said: list[int] = []
            with suppress(NoOffset):  # of a bridged pair: it counts as what was said up to there
                async for step in decode(stream, UpstreamSource(self.backends.upstream)):
                    said.append(step.token_id)  # noqa: PERF401  (what was said before an error stays)
            return said


@asynccontextmanager
async def serving(
    root: Path,
    names: Sequence[str],
    base: Path,
    source: Source,
    max_tokens: int,
    device: str = "cpu",
    box: OtherTokenizer | None = None,
) -> AsyncIterator[ServedCheckpoint]:
    """Load checkpoints under `root` as the server would, their sum if there are several, and connect to the black box.

    `box`: its tokenizer, where it is not the pair's. Raises BadCheckpoint, UncorrectableUpstream, UpstreamError.
    """
    settings = EngineSettings(
        max_streams=STREAMS * len(names),  # a sum takes a slot for each part
        max_len=context_of(base),
        threads=torch.get_num_threads(),
        device=device,
        dtype=default_dtype(device),
    )
    tokenizer, tables = (None, None) if box is None else (box.folder, box.tables)
    async with open_versions(
        settings, root, base=base, served=source.model, tokenizer=tokenizer, tables=tables
    ) as registry:
        version = await _loaded(registry, names)
        upstream = await connect(
            source.url,
            tokenizer=version.tokenizer,
            model=source.model or None,
            key=source.api_key,
            k=source.k,
            timeouts=_patient(source),
            prefix_cache=source.prefix_cache,
        )
        try:
            context = min(context_of(base), upstream.capabilities.max_context or sys.maxsize)
            backends = Backends(sole(upstream), LocalRegistry(registry), source.model)
            yield ServedCheckpoint(version, backends, max_tokens, context, box)
        finally:
            await upstream.aclose()


def rouge_l_recall(answers: Sequence[str], references: Sequence[str]) -> float:
    """Mean ROUGE-L recall of the references, as `deltaserve evaluate` measures it."""
    recalls = [overlap(want, got).rouge_l_recall for got, want in zip(answers, references, strict=True)]
    return float(sum(recalls) / len(recalls))


def prompts_of(rows: Sequence[Scored]) -> list[tuple[int, ...]]:
    return [sample.prompt_ids for sample, _ in rows]


def context_of(base: Path) -> int:
    """Tokens of prompt and answer that the pair may hold. Raises BadRequest for a folder that is no model."""
    if json_object(base / "config.json") is None:
        raise BadRequest(f"{base} is no model folder: it has no config.json that can be read.")
    return longest_context(base)


def references_of(rows: Sequence[Scored], tokenizer: Tokenizer) -> list[str]:
    """The rows' own answers as text."""
    return [tokenizer.decode(sample.answer_ids, skip_special=True) for sample, _ in rows]


async def own_answers(
    box: ProbedUpstream,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    advance: Callable[[], object] = lambda: None,
    context: int = sys.maxsize,
) -> list[str]:
    """A black box's greedy answers, as long as `context` tokens hold them. Raises UpstreamError."""

    async def answer(ids: Sequence[int]) -> Sequence[int]:
        return await retried(lambda: asked(ids))

    async def asked(ids: Sequence[int]) -> Sequence[int]:
        return (await greedy_answer(box, ids, min(max_tokens, context - len(ids)), tokenizer.eos_ids))[0]

    return await _all(tokenizer, prompts, answer, advance)


def _patient(source: Source) -> Timeouts:
    """Never less patient than serving is, and as patient between tokens as before the first: a busy black box stalls
    anywhere, and nobody waits at a screen.
    """
    usual = Timeouts()
    first, between = (max(source.timeout_s, s) for s in (usual.first_token_s, usual.between_tokens_s))
    return replace(usual, first_token_s=first, between_tokens_s=between)


async def _all(
    tokenizer: Tokenizer,
    prompts: Iterable[Sequence[int]],
    answer: Callable[[Sequence[int]], Awaitable[Sequence[int]]],
    advance: Callable[[], object],
) -> list[str]:
    """Texts of all answers, a few at a time."""
    places = asyncio.Semaphore(STREAMS)

    async def one(ids: Sequence[int]) -> str:
        async with places:
            text = tokenizer.decode(await answer(ids), skip_special=True)
        advance()
        return text

    return await asyncio.gather(*map(one, prompts))


async def _loaded(registry: Registry, names: Sequence[str]) -> Version:
    await registry.start(names[0], None)
    if len(names) == 1:
        return registry.resolve(None)
    for name in names[1:]:
        await registry.load(name, name)
    return await registry.sum("sum", dict.fromkeys(names))
