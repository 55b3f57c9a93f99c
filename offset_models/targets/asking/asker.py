"""Asks a real black box: within a budget, by the journal where it was asked before, with patience."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deltaserve.errors import BadRequest
from deltaserve.offset_models.targets.asking.budget import Budget, Spent
from deltaserve.offset_models.targets.asking.journal import Answer, Journal, Question, opened_journal
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.collecting.fetching import run_on_all
from deltaserve.offset_models.training.collecting.source import Source, probed, retried
from deltaserve.offset_models.training.rows.row import Row
from deltaserve.offset_models.training.rows.samples import prompt_ids
from deltaserve.server.decoding.protocols import Draft, DraftParams
from deltaserve.server.upstream.base import Capabilities, ProbedUpstream
from deltaserve.server.upstream.listing.greedy import drawn_answer, greedy_answer

LIST: Final = 0  # tokens of an answer that is a list of what may come next
_BETWEEN: Final = "\x00"  # tokens of a list
_WORD: Final = "Which7word7is7asked7for"  # no template holds it


@dataclass(slots=True)
class _Counted:
    """A black box that counts the calls of one answer."""

    box: ProbedUpstream
    calls: int = 0

    @property
    def capabilities(self) -> Capabilities:
        return self.box.capabilities

    def draft(self, token_ids: Sequence[int], params: DraftParams) -> AbstractAsyncContextManager[Draft]:
        self.calls += 1
        return self.box.draft(token_ids, params)


class Asker:
    """The `Asks` of a real run. Use `asking` to make one."""

    def __init__(
        self,
        box: ProbedUpstream,
        tokenizer: Tokenizer,
        journal: Journal,
        budget: Budget,
        concurrency: int,
        advance: Callable[[], object],
        stages: list[Budget] | None = None,
    ) -> None:
        self._box, self._tokenizer, self._journal = box, tokenizer, journal
        self._budget, self._concurrency, self._advance = budget, concurrency, advance
        self._stages = [] if stages is None else stages

    @property
    def calls_left(self) -> int:
        return self._budget.left

    @property
    def model(self) -> str:
        """Of the black box, as it calls itself."""
        return self._box.capabilities.model

    @property
    def spent(self) -> Spent:
        """Through this asker and those that were made of it."""
        return self._budget.spent

    @property
    def stages(self) -> dict[str, Spent]:
        """What each named stage has cost."""
        return {name: sum((one.spent for one in self._stages if one.stage == name), Spent()) for name in self._names}

    @property
    def _names(self) -> list[str]:
        return list(dict.fromkeys(budget.stage for budget in self._stages))

    async def ask(
        self, rows: Sequence[Row], *, max_tokens: int, temperature: float = 0.0, samples: int = 1
    ) -> list[tuple[str, ...]]:
        """As `Asks.ask`."""
        if samples > 1 and temperature == 0:
            raise ValueError("a greedy answer has one sample")
        prompts = [tuple(prompt_ids(row, self._tokenizer)) for row in rows]
        wanted = [Question(ids, max_tokens, temperature, at) for ids in prompts for at in range(samples)]
        texts = [text.strip() for text in await self._answers(wanted)]
        return [tuple(texts[at : at + samples]) for at in range(0, len(texts), samples)]

    async def ask_raw(
        self, prompts: Sequence[str], *, max_tokens: int, temperature: float = 1.0, stops: Sequence[str] = ()
    ) -> list[str]:
        """As `Asks.ask_raw`."""
        seen: Counter[str] = Counter()
        wanted = []
        for prompt in prompts:
            sample = seen[prompt] if temperature else 0
            wanted.append(Question(self._encoded(prompt), max_tokens, temperature, sample, tuple(stops)))
            seen[prompt] += 1
        return await self._answers(wanted)

    async def listed(self, rows: Sequence[Row]) -> list[tuple[str, ...]]:
        """As `Asks.listed`."""
        wanted = [Question(tuple(prompt_ids(row, self._tokenizer)), LIST) for row in rows]
        return [tuple(text.split(_BETWEEN)) for text in await self._answers(wanted)]

    def user_turn(self) -> str:
        """As `Asks.user_turn`. Raises BadRequest where the model has no chat template."""
        text, found, _ = self._tokenizer.render_chat([{"role": "user", "content": _WORD}]).partition(_WORD)
        if not found:
            raise BadRequest("The model's chat template does not show a user's words as they are.")
        return text

    def within(self, calls: int) -> "Asker":
        """As `Asks.within`."""
        return self._sharing(Budget(calls, self._budget.stage, self._budget))

    def stage(self, name: str, calls: int) -> "Asker":
        """A share of the calls, whose cost is counted under a name."""
        budget = Budget(calls, name, self._budget)
        self._stages.append(budget)
        return self._sharing(budget)

    def _sharing(self, budget: Budget) -> "Asker":
        return Asker(self._box, self._tokenizer, self._journal, budget, self._concurrency, self._advance, self._stages)

    def _encoded(self, text: str) -> tuple[int, ...]:
        """With what begins a text, unless the text has it already."""
        plain = self._tokenizer.encode(text)
        begun = bool(plain) and plain[0] in self._tokenizer.special_ids
        return tuple(plain if begun else self._tokenizer.encode(text, add_special=True))

    async def _answers(self, questions: Sequence[Question]) -> list[str]:
        """Of the journal where they are there, else of the black box. Raises CallsSpent, UpstreamError."""
        missing = [question for question in dict.fromkeys(questions) if self._journal.get(question) is None]
        # One call for each answer first: those made again, now or by a stopped run, take no other answer away.
        earlier = [calls for question in questions if (calls := self._journal.newly_met(question))]
        self._budget.charge(Spent(earlier_calls=len(earlier)))
        affordable = [question for question in missing if self._budget.take()]
        self._budget.charge(Spent(earlier_calls=sum(earlier) - len(earlier)))
        await run_on_all(affordable, self._fetch, self._concurrency)
        answers = [answer for question in questions if (answer := self._journal.get(question)) is not None]
        if len(answers) < len(questions):
            raise self._budget.exhausted(sum(self._journal.get(question) is None for question in missing))
        return [answer.text for answer in answers]

    async def _fetch(self, question: Question) -> None:
        """One answer into the journal, whose first call is paid for."""
        box, listing = _Counted(self._box), question.max_tokens == LIST
        ids: list[int] = []
        try:
            ids = await retried(lambda: self._listed_ids(question, box) if listing else self._drawn(question, box))
        finally:
            told = 1 if listing else len(ids)
            self._budget.charge(Spent(max(box.calls - 1, 0), len(question.ids) * box.calls, told))
        said = _BETWEEN.join(self._text([one]) for one in ids) if listing else _cut(self._text(ids), question.stops)
        self._journal.put(question, Answer(said, box.calls))
        self._advance()

    async def _listed_ids(self, question: Question, box: _Counted) -> list[int]:
        """The first list behind a prompt, the likeliest first."""
        _, lists = await greedy_answer(box, question.ids, 1, self._tokenizer.eos_ids)
        return [int(one) for one in lists[0].top_ids]

    async def _drawn(self, question: Question, box: _Counted) -> list[int]:
        ends = self._tokenizer.eos_ids
        if question.temperature == 0 and not question.stops:
            return (await greedy_answer(box, question.ids, question.max_tokens, ends))[0]
        params = DraftParams(question.temperature, question.max_tokens, question.seed)
        return await drawn_answer(box, question.ids, params, ends, self._stopped_by(question.stops))

    def _stopped_by(self, stops: Sequence[str]) -> Callable[[Sequence[int]], bool]:
        return lambda ids: bool(stops) and any(stop in self._text(ids) for stop in stops)

    def _text(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids, skip_special=True)


@asynccontextmanager
async def asking(
    source: Source,
    tokenizer: Tokenizer,
    work: Path,
    calls: int,
    advance: Callable[[], object] = lambda: None,
) -> AsyncIterator[Asker]:
    """Probe the black box (some dozen calls that do not count) and open the journal in `work`.

    `advance` is called with each answer that was fetched. Raises Conflict, CorruptState, UncorrectableUpstream,
    UpstreamError.
    """
    async with probed(source, tokenizer) as box:
        facts = box.capabilities
        concurrency = min(source.concurrency, facts.slots or source.concurrency)
        with opened_journal(work, facts.model, tokenizer.fingerprint.ids) as journal:
            yield Asker(box, tokenizer, journal, Budget(calls), concurrency, advance)


def _cut(text: str, stops: Sequence[str]) -> str:
    """Before the first of the stops."""
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text
