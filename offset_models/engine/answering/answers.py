"""All streams whose tokens the engine decides: one batch of decisions for those that can be decided."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import torch
from torch import Tensor

from deltaserve.errors import BadRequest, OffsetUnavailable
from deltaserve.offset_models.engine.answering.answer import Answer, Block
from deltaserve.offset_models.engine.answering.asking import (
    Answered,
    Ask,
    Begin,
    DraftBlock,
    Force,
    Guess,
    Lift,
    Look,
    Request,
)
from deltaserve.offset_models.engine.answering.row_store import RowStore
from deltaserve.offset_models.engine.batch import RowsToDecide
from deltaserve.offset_models.engine.deciding.decide import decide, expected, lifted
from deltaserve.offset_models.engine.deciding.questions import Question
from deltaserve.offset_models.engine.deciding.resolving import Drafted, Outcome
from deltaserve.offset_models.engine.streams import OUTSIDE, EngineStream
from deltaserve.server.decoding.deciding.blind import UNKNOWN
from deltaserve.server.decoding.deciding.corrector import Decision
from deltaserve.server.decoding.deciding.naming import NamesWanted
from deltaserve.server.decoding.protocols import NO_IDS, Ids

T = TypeVar("T")

_AT_ONCE: Final = 256  # questions: each copies its row a few times
_LOOKS: Final[Mapping[type[Look], Callable[[Tensor, Tensor, Sequence[Question]], Sequence[Any]]]] = {
    Guess: expected,
    Lift: lifted,
}
_LATE: Final[Mapping[type[Look], Any]] = {Guess: None, Lift: NO_IDS}  # where the stream went on meanwhile

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)  # not frozen: made for every token, and that takes a third of the time
class _Ready:
    """A question whose row is there."""

    answer: Answer
    place: int
    question: Question
    kind: type[Ask] | type[DraftBlock] | type[Look]


class Answers:
    """Belongs to the engine's thread. `fail` ends a stream whose numbers cannot be trusted."""

    def __init__(self, max_ahead: int, fail: Callable[[EngineStream, OffsetUnavailable], None]) -> None:
        self._max_ahead = max_ahead
        self._fail_stream = fail
        self._stores: dict[int, RowStore] = {}  # by width
        self._of: dict[EngineStream, Answer] = {}
        self._asking: dict[Answer, None] = {}
        self._replies: list[Answered] = []

    def __contains__(self, stream: object) -> bool:
        return stream in self._of

    @property
    def nbytes(self) -> int:
        """Held for rows that wait."""
        return sum(store.nbytes for store in list(self._stores.values()))

    @property
    def rows_waiting(self) -> int:
        """Rows that wait for a decision."""
        return sum(store.held for store in list(self._stores.values()))

    @property
    def waiting(self) -> bool:
        """Whether something is asked that could be decided, or whose row should be computed now."""
        return bool(self._asking)

    @property
    def ready(self) -> bool:
        """Whether something asked can be decided."""
        return any(not answer.row_missing for answer in self._asking)

    def replies(self) -> list[Answered]:
        """What is to be sent, taken off."""
        replies, self._replies = self._replies, []
        return replies

    def take(self, request: Request) -> None:
        """A message of a stream's corrector."""
        if isinstance(request, Begin):
            request.stream.decided = True
            self._of[request.stream] = Answer.of(request, self._max_ahead, self._dropper(request.stream))
            return
        answer = self._of.get(request.stream)
        if answer is None:
            self._replies.append((request.reply, request.stream.error or OffsetUnavailable("The session is closed.")))
            return
        if isinstance(request, Force):
            self._replies.append((request.reply, _or_error(answer.force)))
        else:
            self._ask(answer, request)

    def keep(self, rows: RowsToDecide) -> None:
        """Rows of a batch, until their positions are decided."""
        store = self._store(rows.base)
        known = rows.offset.masked_fill(rows.base == -math.inf, 0.0)  # of ids that no tokenizer has
        places = iter(store.put(rows.base, known))
        for stream, first, count in rows.streams:
            answer = self._of.get(stream)
            for position in range(first, first + count):
                self._place(store, answer, position, next(places))

    @staticmethod
    def _place(store: RowStore, answer: Answer | None, position: int, place: int) -> None:
        if answer is None or position < answer.settled:
            store.drop(place)
            return
        if (former := answer.rows.get(position)) is not None:
            store.drop(former)
        answer.rows[position] = place

    def close(self, stream: EngineStream, error: Exception | None = None) -> None:
        """The stream has ended; who still waits gets the error."""
        answer = self._of.pop(stream, None)
        if answer is None:
            return
        answer.close()
        self._asking.pop(answer, None)
        error = stream.error = error or OffsetUnavailable("The session is closed.")
        looks = [look for look, _ in answer.looks.values()]
        waiting = [answer.ask, *looks, answer.block.asked if answer.block else None]
        self._replies.extend((request.reply, error) for request in waiting if request is not None)

    def decide(self) -> list[EngineStream]:
        """Decide all that can be decided; the chosen tokens are the next ids of these streams."""
        ready = [one for answer in list(self._asking) for one in self._ready(answer)]
        stores: dict[RowStore, list[_Ready]] = {}
        for one in ready:
            stores.setdefault(self._stores_of(one.answer), []).append(one)
        for store, those in stores.items():
            self._decide(store, those)
        self._asking = {answer: None for answer in self._asking if _asks(answer)}
        return [one.answer.stream for one in ready]

    def _ask(self, answer: Answer, request: Ask | Look | DraftBlock) -> None:
        if answer.settled > answer.stream.max_len:
            self._replies.append((request.reply, answer.stream.too_long(answer.settled)))
            return
        if answer.settled > len(answer.stream.ids):  # its row can never come
            self._replies.append((request.reply, OffsetUnavailable(OUTSIDE)))
            return
        self._asking[answer] = None
        if isinstance(request, Ask):
            answer.ask = request
            if len(request.run) > 1 or answer.settled not in answer.rows:  # else it is decided first
                answer.look_ahead([p.token_id for p in request.run if p.token_id is not None])
        elif isinstance(request, (Guess, Lift)):
            self._looked(answer, type(request), _LATE[type(request)])
            answer.looks[type(request)] = request, answer.settled
        else:
            answer.drafted.clear()
            answer.block = Block(request, answer.history.fork())
            answer.look_ahead([])

    def _ready(self, answer: Answer) -> Iterator[_Ready]:
        for kind, (_, at) in list(answer.looks.items()):
            if at != answer.settled:
                self._looked(answer, kind, _LATE[kind])
            elif (place := answer.rows.get(at)) is not None:
                question = Question(UNKNOWN, answer.params, answer.policy, answer.history, answer.noise, None)
                yield _Ready(answer, place, question, kind)
        if (drafting := answer.block_question()) is not None:
            yield _Ready(answer, *drafting, DraftBlock)
        try:
            yield from (_Ready(answer, place, question, Ask) for place, question in answer.questions())
        except Exception as error:  # noqa: BLE001  (of this position: whoever asked is told)
            self._reply(answer, error)

    def _decide(self, store: RowStore, ready: Sequence[_Ready]) -> None:
        for kind, function in _LOOKS.items():
            looks = [one for one in ready if one.kind is kind]
            for one, told in zip(looks, _in_parts(function, store, looks), strict=True):
                self._looked(one.answer, kind, told)
        others = [one for one in ready if one.kind not in _LOOKS]
        self._settle(others, _in_parts(decide, store, others))

    def _settle(self, ready: Sequence[_Ready], outcomes: Sequence[Outcome]) -> None:
        runs: dict[Answer, list[tuple[Question, Outcome]]] = {}
        for one, outcome in zip(ready, outcomes, strict=True):
            if one.kind is DraftBlock:
                self._drafted(one.answer, outcome)
            else:
                runs.setdefault(one.answer, []).append((one.question, outcome))
        for answer, run in runs.items():
            self._settle_run(answer, run)

    def _settle_run(self, answer: Answer, run: Sequence[tuple[Question, Outcome]]) -> None:
        decisions: list[Decision] = []
        for question, outcome in run:
            if not isinstance(outcome, Decision):
                if decisions:  # it is asked again, as the first of the next run
                    break
                if isinstance(outcome, NamesWanted):
                    self._reply(answer, NamesWanted(_all_wanted(run), outcome.likely))
                    return
                self._broken(answer, outcome if isinstance(outcome, Exception) else TypeError("a run keeps no draft"))
                return
            decisions.append(outcome)
            if not answer.take(question.proposal, outcome):
                break
        self._reply(answer, decisions)

    def _drafted(self, answer: Answer, outcome: Outcome) -> None:
        block = answer.block
        if isinstance(outcome, (BadRequest, ArithmeticError)) and block is not None and block.tokens:
            answer.block = None  # nothing can follow this draft, which need not become the answer
            self._replies.append((block.asked.reply, block.tokens))
            return
        if isinstance(outcome, Exception) or block is None:
            self._broken(answer, outcome if isinstance(outcome, Exception) else ValueError("no block is drafted"))
            return
        decision, drawn_from = (
            (outcome.decision, outcome.drawn_from) if isinstance(outcome, Drafted) else (outcome, None)
        )
        tokens = answer.drafted_one(decision.token_id, drawn_from)
        if tokens is not None:
            self._replies.append((block.asked.reply, tokens))

    def _broken(self, answer: Answer, error: Exception) -> None:
        if isinstance(error, OffsetUnavailable):  # its row cannot be trusted, nor what comes after it
            self.close(answer.stream, error)
            self._fail_stream(answer.stream, error)
            return
        if answer.block is not None:
            self._replies.append((answer.block.asked.reply, error))
            answer.block = None
        self._reply(answer, error)

    def _looked(self, answer: Answer, kind: type[Look], told: object) -> None:
        """Answer the look of this kind, where there is one."""
        look, _ = answer.looks.pop(kind, (None, 0))
        if look is not None:
            self._replies.append((look.reply, told))

    def _reply(self, answer: Answer, result: object) -> None:
        if answer.ask is not None:
            self._replies.append((answer.ask.reply, result))
            answer.ask = None

    def _store(self, base: Tensor) -> RowStore:
        width = base.shape[1]
        if width not in self._stores:
            self._stores[width] = RowStore(width, base.device)
        return self._stores[width]

    def _stores_of(self, answer: Answer) -> RowStore:
        return self._stores[answer.stream.recipe.width]

    def _dropper(self, stream: EngineStream) -> Callable[[int], None]:
        return lambda place: self._stores[stream.recipe.width].drop(place)


def _in_parts(
    function: Callable[[Tensor, Tensor, Sequence[Question]], Sequence[T]], store: RowStore, ready: Sequence[_Ready]
) -> list[T | OffsetUnavailable]:
    """What `function` says of each, so many at a time that their copies of rows do not fill the device."""
    return [
        result
        for first in range(0, len(ready), _AT_ONCE)
        for result in _or_alone(function, store, ready[first : first + _AT_ONCE])
    ]


def _or_alone(
    function: Callable[[Tensor, Tensor, Sequence[Question]], Sequence[T]], store: RowStore, ready: Sequence[_Ready]
) -> Sequence[T | OffsetUnavailable]:
    """All together; where that fails, each alone, so that only the guilty one is lost."""
    try:
        return function(*store.take([one.place for one in ready]), [one.question for one in ready])
    except torch.AcceleratorError:
        raise  # the device is lost for every later call too
    except Exception as error:  # noqa: BLE001  (of one question; the others must not end with it)
        if len(ready) > 1:
            return [result for one in ready for result in _or_alone(function, store, [one])]
        _log.exception("The engine could not decide a token.")
        return [OffsetUnavailable(f"The engine could not decide a token ({type(error).__name__}).")]


def _or_error(function: Callable[[], T]) -> T | Exception:
    try:
        return function()
    except Exception as error:  # noqa: BLE001  (told to whoever asked)
        return error


def _all_wanted(run: Sequence[tuple[Question, Outcome]]) -> list[tuple[int, Ids]]:
    """What the positions of a run want, as if its tokens were accepted."""
    found = [(place, outcome) for place, (_, outcome) in enumerate(run) if isinstance(outcome, NamesWanted)]
    return [(place, ids) for place, wanted in found for _, ids in wanted.names]


def _asks(answer: Answer) -> bool:
    return answer.ask is not None or bool(answer.looks) or answer.block is not None
