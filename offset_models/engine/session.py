"""One stream's side of the engine, on its event loop: which ids were sent and which rows came back."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from deltaserve.errors import BadRequest, DeltaserveError, OffsetUnavailable
from deltaserve.offset_models.engine.answering.asking import Reply, Request, send
from deltaserve.offset_models.engine.answering.branching import fans
from deltaserve.offset_models.engine.answering.corrector import EngineCorrector
from deltaserve.offset_models.engine.forward.branches import Branches
from deltaserve.offset_models.engine.forward.prefix import common_prefix
from deltaserve.offset_models.engine.streams import OUTSIDE, EngineStream, Fan, Feed, Hurry
from deltaserve.server.decoding.deciding.corrector import AnswerSpec, Corrector
from deltaserve.server.decoding.deciding.row_session import RowSession
from deltaserve.server.decoding.protocols import OffsetRow

Send = Callable[[Feed | Hurry | Fan | Request], None]


class Session(RowSession):
    """One stream's place, which gives rows; belongs to the event loop that opened it.

    A position is the number of ids before a row. Rows are kept from the position last asked for on; asking for an
    earlier one computes it again.
    """

    def __init__(
        self,
        stream: EngineStream,
        send: Send,
        release: Callable[["Session"], None],
        max_ahead: int,
        *,
        decides: bool = False,  # the engine decides the tokens of this stream
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.stream = stream
        self._send = send
        self._release = release
        self._max_ahead = max_ahead
        self._decides = decides
        self._asked: set[asyncio.Future[Any]] = set()
        self._ids: list[int] = []
        self._asked_from = 0  # rows of all positions from here to len(_ids) are there or on their way
        self._rewinds: list[int] = []  # how many ids each rewind kept; their number is the epoch of what is sent
        self._rows: dict[int, OffsetRow] = {}
        self._waiting: dict[int, asyncio.Future[OffsetRow]] = {}
        self._error: DeltaserveError | None = None
        self._closed = False

    def corrector(self, answer: AnswerSpec) -> Corrector:
        """By the engine where rows are dear to move, else on this loop."""
        if not self._decides:
            return super().corrector(answer)
        self._require_possible(answer.prompt_ids)
        if not self._known(answer.prompt_ids):
            raise OffsetUnavailable(OUTSIDE)
        return EngineCorrector(self, answer)

    def tell(self, request: Request) -> None:
        self._send(request)

    async def ask(self, request: Callable[[Reply], Request | Fan]) -> Any:
        if self._error is not None:
            raise self._error
        reply = Reply(self.loop, self.loop.create_future())
        self._asked.add(reply.future)
        try:
            self._send(request(reply))
            return await reply.future
        finally:
            self._asked.discard(reply.future)

    def prefetch(self, token_ids: Sequence[int]) -> None:
        """Start computing the rows of every new prefix up to `token_ids` (of a fresh prompt only the last).

        At most `max_ahead` positions beyond the one last asked for; the rest waits for a later call.
        """
        if self._ids:
            token_ids = token_ids[: self._asked_from + self._max_ahead]
        if self._error is None and 0 < len(token_ids) <= self.stream.max_len:
            self._feed(token_ids, every=bool(self._ids))

    async def row(self, token_ids: Sequence[int]) -> OffsetRow:
        """The row after `token_ids`. Raises OffsetUnavailable, or BadRequest for a prompt that cannot have a row."""
        self._require_possible(token_ids)
        self._feed(token_ids, every=False)
        if self._error is not None:
            raise self._error
        position = len(token_ids)
        if position < self._asked_from:
            self._ask_again(position)
        self._pass(position)
        row = self._rows.get(position)
        if row is not None:
            return row
        future = self._waiting.get(position)
        if future is None:
            future = self._waiting[position] = self.loop.create_future()
            self._send(Hurry(self.stream))
        return await asyncio.shield(future)

    async def rows_behind(self, token_ids: Sequence[int], paths: Sequence[Sequence[int]]) -> list[OffsetRow]:
        """In one batch, but for those that are there or on their way; what the stream has computed stays."""
        ways, longest = {tuple(path) for path in paths}, max(map(len, paths), default=0)
        self._require_possible(token_ids)
        self._feed(token_ids, every=False)
        room = self.stream.max_len - len(self._ids)
        if room < longest or not self._known([token_id for way in ways for token_id in way]):
            return await super().rows_behind(token_ids, paths)  # which says what is wrong
        coming = {way for way in ways if not way or self._coming([*token_ids, *way])}
        rows: dict[tuple[int, ...], OffsetRow] = {}
        for named, branches in fans(self._ids, len(token_ids), ways - coming, room):
            rows |= zip(named, await self.ask(partial(self._fan, branches)), strict=True)
        for way in sorted(coming):
            rows[way] = await self.row([*token_ids, *way])
        return [rows[tuple(path)] for path in paths]

    def _coming(self, token_ids: Sequence[int]) -> bool:
        """Whether the row after these ids is there, or on its way."""
        position = len(token_ids)
        return position >= self._asked_from and self._ids[:position] == token_ids

    def _fan(self, branches: Branches, reply: Reply) -> Fan:
        return Fan(self.stream, branches, lambda rows: send([(reply, rows)]))

    def close(self) -> None:
        """Give the slots back; idempotent."""
        if not self._closed:
            self._closed = True
            self._fail(OffsetUnavailable("The session is closed."))
            self._release(self)

    def deliver(self, epoch: int, position: int, row: OffsetRow | DeltaserveError) -> None:
        """Take a row that the engine computed for the ids of `epoch`. Runs on the session's loop."""
        if isinstance(row, DeltaserveError):
            self._fail(row)
            return
        void = any(position > kept for kept in self._rewinds[epoch:])
        if not (void or self._closed or position < self._asked_from):
            self._rows[position] = row
            future = self._waiting.pop(position, None)
            if future is not None and not future.done():
                future.set_result(row)

    def _require_possible(self, token_ids: Sequence[int]) -> None:
        if self._error is not None:
            raise self._error
        if not token_ids:
            raise BadRequest("The prompt must have at least one token.")
        if len(token_ids) > self.stream.max_len:
            raise self.stream.too_long(len(token_ids))

    def _known(self, token_ids: Sequence[int]) -> bool:
        return not token_ids or (min(token_ids) >= 0 and max(token_ids) < self.stream.recipe.id_limit)

    def _feed(self, token_ids: Sequence[int], *, every: bool) -> None:
        """Tell the engine what it does not know yet."""
        kept, known, wanted = common_prefix(self._ids, token_ids), len(self._ids), len(token_ids)
        if kept == wanted:
            return
        if kept < known:
            self._rewind(kept)
        first = kept + 1 if every else wanted
        if first > kept + 1 or self._asked_from > kept + 1:
            self._asked_from = first
        new = list(token_ids[kept:])
        if not self._known(new):
            self._fail(OffsetUnavailable(OUTSIDE))
            return
        self._ids.extend(new)
        self._send(Feed(self.stream, kept, new, first, len(self._rewinds)))

    def _rewind(self, kept: int) -> None:
        self._rewinds.append(kept)
        del self._ids[kept:]
        for position in [p for p in self._rows if p > kept]:
            del self._rows[position]
        for position in [p for p in self._waiting if p > kept]:
            self._waiting.pop(position).cancel()

    def _ask_again(self, position: int) -> None:
        """A row that was passed (or never wanted) is wanted after all: its last token is computed again."""
        self._rewind(position)
        self._asked_from = position
        self._send(Feed(self.stream, position, [], position, len(self._rewinds)))

    def _pass(self, position: int) -> None:
        """Drop the rows before the position of a call: they are not needed again."""
        self._asked_from = max(self._asked_from, position)
        for earlier in [p for p in self._rows if p < position]:
            del self._rows[earlier]

    def _fail(self, error: DeltaserveError) -> None:
        if self._error is None:
            self._error = error
        self._rows.clear()
        for future in [*self._waiting.values(), *self._asked]:
            if not future.done():
                future.set_exception(error)
                future.exception()  # read here: a waiter that was cancelled meanwhile is not to be warned about
        self._waiting.clear()
