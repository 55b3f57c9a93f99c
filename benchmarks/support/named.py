"""Answers of the whole path with and without ids that are asked for by name, and how close each step came to exact.

The pair drafts no blocks here: how many it does depends on the machine's speed, and calls are counted.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.support.local import LocalPair
from deltaserve.server.decoding.correction import correct
from deltaserve.server.decoding.deciding.corrector import Decision
from deltaserve.server.decoding.deciding.naming import NamesWanted, names_wanted, with_names
from deltaserve.server.decoding.deciding.row_session import RowSession
from deltaserve.server.decoding.decoder import DraftSource, decode
from deltaserve.server.decoding.drafting.adaptive import BlockLimits
from deltaserve.server.decoding.drafting.sources import Drafting
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Naming, Policy
from deltaserve.server.decoding.protocols import Draft, DraftParams, Floats, OffsetRow, Proposal
from deltaserve.server.decoding.sampling import target
from deltaserve.server.decoding.stream import Stream
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.listing.named import named_ids

MODES = ("off", "auto", "always")
TAILS = (1.0, 0.1, 0.05, 0.03, 0.01, 0.003)
_TAIL, _AHEAD, _PER_TOKEN = 0.03, 8, 0.05
_PLACE_S = 600.0

Prefix = tuple[int, ...]
Seen = tuple[Prefix, Proposal, OffsetRow]


class Remembering(RowSession):
    """A session that keeps its rows."""

    def __init__(self, session: RowSession) -> None:
        self._session = session
        self.rows: dict[Prefix, OffsetRow] = {}

    def prefetch(self, token_ids: Sequence[int]) -> None:
        self._session.prefetch(token_ids)

    async def row(self, token_ids: Sequence[int]) -> OffsetRow:
        row = self.rows[tuple(token_ids)] = await self._session.row(token_ids)
        return row

    def close(self) -> None:
        self._session.close()


@dataclass(slots=True)
class Recording:
    """A `DraftSource` that remembers what each position was decided from."""

    source: DraftSource
    decided: list[tuple[Prefix, Proposal]] = field(default_factory=list)

    def open(self, stream: Stream) -> AbstractAsyncContextManager[Draft]:
        return self.source.open(stream)

    async def named(self, stream: Stream, run: Sequence[Proposal], wanted: NamesWanted) -> list[Proposal]:
        return await self.source.named(stream, run, wanted)

    def holds(self, stream: Stream) -> bool:
        return self.source.holds(stream)

    @property
    def observes(self) -> bool:
        return self.source.observes

    def observe(self, stream: Stream, proposal: Proposal, decision: Decision, /) -> None:
        self.decided.append((tuple(stream.ids), proposal))
        self.source.observe(stream, proposal, decision)

    async def aclose(self) -> None:
        await self.source.aclose()


@dataclass(frozen=True, slots=True)
class Way:
    """How answers are made: the length of lists, and whether ids are asked for by name."""

    k: int
    mode: str

    @property
    def policy(self) -> Policy:
        naming = Naming(tail=_TAIL, certify=self.mode == "always", ahead=_AHEAD)
        return Policy(naming=None if self.mode == "off" else naming)

    def sources(self, box: CompletionsBox) -> Callable[[], DraftSource]:
        """Makes the source of each answer."""
        box = box.knowing(k=self.k)
        names = None if self.mode == "off" else named_ids(box)
        drafting = Drafting(BlockLimits(), named_per_token=_PER_TOKEN if self.mode == "auto" else None)
        return lambda: drafting.source(box, None, names)


@dataclass(frozen=True, slots=True)
class Answer:
    """Its tokens, what each was decided from, and what it cost."""

    tokens: list[int]
    seen: list[Seen]
    calls: int
    named_calls: int


async def answered(pair: LocalPair, way: Way, questions: Sequence[str], params: SamplingParams) -> list[Answer]:
    """An answer to each question."""
    source_of, answers = way.sources(pair.box), list[Answer]()
    for question in questions:
        session = Remembering(await pair.version.open(_PLACE_S))
        ids = pair.encoded(question)
        stream = Stream(ids, params, session, pair.version.tokenizer.detokenizer(ids), policy=way.policy)
        source = Recording(source_of())
        tokens = [step.token_id async for step in decode(stream, source)]
        session.close()
        seen = [(prefix, proposal, session.rows[prefix]) for prefix, proposal in source.decided]
        answers.append(Answer(tokens, seen, stream.stats.upstream_calls, stream.stats.named_calls))
    return answers


@dataclass(slots=True)
class Oracle:
    """The widest lists of the black box."""

    box: CompletionsBox
    known: dict[Prefix, Proposal] = field(default_factory=dict)

    async def listed(self, prefix: Prefix) -> Proposal:
        if prefix not in self.known:
            async with self.box.draft(prefix, DraftParams(0.0, 1)) as draft:
                self.known[prefix] = await anext(aiter(draft))
        return self.known[prefix]


async def figures_of(oracle: Oracle, answers: Sequence[Answer]) -> dict[str, float]:
    """Each step as it was decided, against the whole vocabulary."""
    params = SamplingParams(max_tokens=1, temperature=0.0)
    certified, agreed, distances = [], [], []
    seen = [step for answer in answers for step in answer.seen]
    for prefix, proposal, row in seen:
        whole, part = correct(await oracle.listed(prefix), row), correct(proposal, row)
        exact, found = (target(corrected, params, History(params, ())) for corrected in (whole, part))
        certified.append(found.certified)
        agreed.append(found.best(proposal.token_id) == exact.best(proposal.token_id))
        distances.append(0.5 * float(np.abs(_probs(whole.dense()) - _probs(part.dense())).sum()))
    per_100 = 100.0 / len(seen)
    return {
        "answers": len(answers),
        "steps": len(seen),
        "uncertified_per_100": per_100 * certified.count(False),
        "greedy_agreement": float(np.mean(agreed)),
        "total_variation": float(np.mean(distances)),
        "calls_per_100": per_100 * sum(answer.calls for answer in answers),
        "named_calls_per_100": per_100 * sum(answer.named_calls for answer in answers),
    }


def _probs(weights: Floats) -> Floats:
    probs = np.exp(weights - weights.max())
    share: Floats = probs / probs.sum()
    return share


async def by_tail(oracle: Oracle, answers: Sequence[Answer], params: SamplingParams) -> list[dict[str, float]]:
    """A row for each `named_tail`: what asking above it costs and brings, on the steps of answers without names."""
    steps = [
        (await oracle.listed(prefix), proposal, row) for answer in answers for prefix, proposal, row in answer.seen
    ]
    return [{"named_tail": tail} | _above(tail, steps, params) for tail in TAILS]


def _above(
    tail: float, steps: Sequence[tuple[Proposal, Proposal, OffsetRow]], params: SamplingParams
) -> dict[str, float]:
    asked, uncertified, distance = 0, 0, 0.0
    for whole, proposal, row in steps:
        goal = target(correct(proposal, row), params, History(params, ()))
        ids = names_wanted(proposal, goal, Naming(tail=tail))
        if ids.size:
            numbers = dict(zip(whole.top_ids.tolist(), whole.top_logprobs.tolist(), strict=True))
            told = with_names(proposal, ids, np.array([numbers[i] for i in ids.tolist()]))
            goal = target(correct(told, row), params, History(params, ()))
        asked, uncertified = asked + bool(ids.size), uncertified + (not goal.certified)
        distance += 0.5 * float(np.abs(_probs(correct(whole, row).dense()) - _probs(goal.corrected.dense())).sum())
    figures = {"asked": 100.0 * asked, "uncertified": 100.0 * uncertified, "total_variation": distance}
    return {name: figure / len(steps) for name, figure in figures.items()}


async def compared(
    pair: LocalPair, questions: dict[str, Sequence[str]], ks: Sequence[int]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A row for each kind of question, temperature, k and mode: of all answers, and of those the same in all modes.

    And rows of what each bound `named_tail` costs and brings.
    """
    oracle, rows, bounds = Oracle(pair.box), list[dict[str, Any]](), list[dict[str, Any]]()
    ends = pair.backends.end_ids(pair.version)
    for split, texts in questions.items():
        for temperature, k in ((temperature, k) for temperature in (0.0, 1.0) for k in ks):
            params = SamplingParams(max_tokens=48, temperature=temperature, seed=7, eos_ids=ends)
            by_mode = {mode: await answered(pair, Way(k, mode), texts, params) for mode in MODES}
            tried = await by_tail(oracle, by_mode["off"], params)
            bounds += [{"questions": split, "T": temperature, "k": k} | row for row in tried]
            for which, kept in (("all", by_mode), ("same", same_in_all(by_mode))):
                fixed = {"questions": split, "T": temperature, "k": k, "of": which}
                figures = {mode: await figures_of(oracle, answers) for mode, answers in kept.items() if answers}
                rows += [fixed | {"named": mode} | found | added(found, figures) for mode, found in figures.items()]
    return rows, bounds


def same_in_all(by_mode: dict[str, list[Answer]]) -> dict[str, list[Answer]]:
    """The answers that every mode gives: what else differs is not the steps."""
    together = zip(*by_mode.values(), strict=True)
    same = [at for at, answers in enumerate(together) if all(one.tokens == answers[0].tokens for one in answers)]
    return {mode: [answers[at] for at in same] for mode, answers in by_mode.items()}


def added(found: dict[str, float], figures: dict[str, dict[str, float]]) -> dict[str, float]:
    return {"added_per_100": found["calls_per_100"] - figures[MODES[0]]["calls_per_100"]}
