"""The whole of collecting: rows of both sides in, samples with the black box's top-k out; only what is new is asked."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from deltaserve.errors import BadRequest
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.collecting.cache import AnswerCache, TopK, TopKCache
from deltaserve.offset_models.training.collecting.collect import collect, collect_answers
from deltaserve.offset_models.training.collecting.folder import Collection, Side, read_collection
from deltaserve.offset_models.training.collecting.source import Scorer, Source
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.sides import Data, Encoded, Retained, check_rows, encoded
from deltaserve.server.upstream.listing.methods import Cost

Scored = tuple[Sample, TopK]


class Shown(Protocol):
    """Where progress goes: a stage by name and size gives what to call for every piece of work done."""

    def stage(self, name: str, total: int) -> AbstractContextManager[Callable[..., None]]: ...


@dataclass(frozen=True, slots=True)
class Gathered:
    """What training needs of the black box. `forget` or `refused` is empty when it was not collected."""

    forget: list[Scored]
    refused: list[Scored]
    retain: list[Scored]
    collection: Collection


@dataclass(frozen=True, slots=True)
class Caches:
    """Of one model at one k."""

    tops: TopKCache
    answers: AnswerCache

    @classmethod
    def open(cls, folder: Path, model: str, k: int, answer_tokens: int) -> "Caches":
        return cls(TopKCache(folder, model, k), AnswerCache(folder, model, answer_tokens))

    def missing(self, encoded: Encoded) -> tuple[list[Sample], list[tuple[int, ...]]]:
        """Samples without top-k and prompts without an answer, each once."""
        prompts = [prompt for prompt in dict.fromkeys(encoded.prompts) if self.answers.get(prompt) is None]
        samples = dict.fromkeys(self.samples(encoded))
        return [sample for sample in samples if self.tops.get(sample) is None], prompts

    def samples(self, encoded: Encoded) -> list[Sample]:
        """Every sample known by now."""
        return [*encoded.known(), *(found for row in encoded.retain if row.sample is None for found in self._told(row))]

    def known(self, encoded: Encoded) -> list[Scored]:
        """Samples with their top-k, each once, as far as it is there."""
        return _scored(dict.fromkeys(self.samples(encoded)), self.tops)

    def retained(self, encoded: Encoded) -> list[Sample]:
        """The retain side in order, answered by the black box where it had to be."""
        return [found for row in encoded.retain for found in self._told(row)]

    def _told(self, row: Retained) -> Iterator[Sample]:
        if row.sample is not None:
            yield row.sample
        elif (answer := self.answers.get(row.prompt)) is not None:
            yield Sample(row.prompt, answer)


def estimate(missing: tuple[Sequence[Sample], Sequence[Sequence[int]]], data: Data, scorer: Scorer) -> Cost:
    """What `gather` will ask: scoring calls, and one call for each answer (more where tokens are swallowed)."""
    samples, prompts = missing
    scoring = (scorer.cost(sample) for sample in samples)
    answering = (Cost(1, len(prompt), data.answer_tokens) for prompt in prompts)
    return sum([*scoring, *answering], Cost())


async def gather(
    data: Data, found: Encoded, caches: Caches, source: Source, scorer: Scorer, shown: Shown, end_ids: Sequence[int]
) -> None:
    """Ask for everything that is missing: answers first, then top-k. What was fetched before a failure is kept."""
    source = replace(source, concurrency=scorer.concurrency(source.concurrency))
    _, prompts = caches.missing(found)
    if prompts:
        with shown.stage("answers", len(prompts)) as advance:
            both = caches.answers, caches.tops
            await collect_answers(prompts, scorer, both, data.answer_tokens, end_ids, source.concurrency, advance)
    samples = caches.samples(found)
    with shown.stage("top-k", len(samples)) as advance:
        await collect(samples, scorer, caches.tops, source.concurrency, advance)


def record(data: Data, tokenizer: Tokenizer, scorer: Scorer, asked_k: int) -> Collection:
    """What the folder will say of itself; not complete yet."""
    return Collection(
        model=scorer.model,
        server=scorer.box.capabilities.server,
        k=scorer.k,
        asked_k=asked_k,
        method=scorer.method.name,
        tokenizer=tokenizer.fingerprint.ids,
        max_context=scorer.box.capabilities.max_context,
        answer_tokens=data.answer_tokens,
        forget=Side.of(data.forget),
        retain=Side.of(data.retain),
    )


def read_gathered(folder: Path, data: Data, tokenizer: Tokenizer, *, skip_bad: bool = False) -> Gathered:
    """What was collected, without asking anybody. Raises BadRequest when something is missing, BadRow."""
    collection = read_collection(folder)
    if collection is None or collection.tokenizer != tokenizer.fingerprint.ids:
        raise BadRequest(f"{folder} holds nothing collected with this tokenizer: run `deltaserve collect` first.")
    found = encoded(replace(data, answer_tokens=collection.answer_tokens), tokenizer, collection.max_context)
    check_rows(found, skip_bad=skip_bad)
    caches = Caches.open(folder, collection.model, collection.k, collection.answer_tokens)
    samples, prompts = caches.missing(found)
    if samples or prompts:
        raise BadRequest(
            f"{folder} lacks the black box's answers to {len(samples) + len(prompts)} of the rows: "
            "run `deltaserve collect` with the same files."
        )
    return Gathered(
        forget=_scored(found.forget, caches.tops),
        refused=_scored(found.refused, caches.tops),
        retain=_scored(caches.retained(found), caches.tops),
        collection=collection,
    )


def _scored(samples: Iterable[Sample], tops: TopKCache) -> list[Scored]:
    return [(sample, top) for sample in samples if (top := tops.get(sample)) is not None]
