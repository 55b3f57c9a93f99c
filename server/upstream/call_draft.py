"""One streamed call of a black box as a draft: its events become proposals when the core looks."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal, Protocol

from deltaserve.errors import MalformedTopK, UpstreamError, UpstreamUnreachable
from deltaserve.server.decoding.protocols import NO_FLOATS, NO_IDS, Proposal
from deltaserve.server.upstream.cost import Cost
from deltaserve.server.upstream.forms import Sent
from deltaserve.server.upstream.http.refusals import error_from, error_of
from deltaserve.server.upstream.http.strict_json import parsed
from deltaserve.server.upstream.http.transport import EventStream
from deltaserve.server.upstream.ledger import Ledger
from deltaserve.server.upstream.topk import TopKRules

Reader = Callable[[Any], Any]
HIDDEN = Proposal(None, NO_IDS, NO_FLOATS)  # something was drawn here and not shown: nothing later belongs here


class Source(Protocol):
    """What a draft asks of the black box whose call it is."""

    hidden_draws: ClassVar[Literal["none", "unknown", "some"]]
    counts_prompt: ClassVar[bool]
    ends_apart: bool

    @property
    def rules(self) -> TopKRules: ...
    def reader(self) -> Reader: ...
    def proposals(self, choice: dict[str, Any]) -> Iterator[Proposal]: ...
    def ending(self, proposal: Proposal, choice: Mapping[str, Any]) -> Proposal: ...
    def drawn_at(self, temperature: float) -> float | None: ...
    async def shown_again(self, prefix: list[int], *, ended: bool = False) -> Proposal: ...
    def hidden_end(self, proposal: Proposal) -> Proposal: ...


class CompletionDraft:
    """Proposals of one call in order. Events that arrived are parsed when the core looks, all of them at once."""

    def __init__(
        self,
        box: Source,
        events: EventStream,
        prefix: list[int],
        temperature: float,
        max_tokens: int,
        *,
        recover: bool = True,
    ) -> None:
        self._box, self._events = box, events
        self._sent = len(prefix)
        self._asked_again = 0  # for positions that were hidden
        self._prefix = prefix  # grows by every proposal handed out: the core goes on only from what it accepted
        self._temperature = temperature
        self._left = max_tokens  # positions not parsed yet
        self._recover = recover
        self.sent: Sent | None = None  # of the answer's grammar
        self._ready: deque[Proposal] = deque()
        self._error: UpstreamError | None = None
        self._read = box.reader()
        self._ledger = Ledger(box.hidden_draws == "some", box.counts_prompt)
        self._ended = False  # nothing more will be parsed
        self._silent = False  # the latest token had no text: the next event tells whether it was the end

    @property
    def temperature(self) -> float | None:
        guessed = self.sent is not None and not self.sent.same
        return None if guessed else self._box.drawn_at(self._temperature)

    @property
    def cost(self) -> Cost:
        shown = self._ledger.positions + len(self._events.arrived)
        drawn = shown if self._ledger.drawn is None else self._ledger.drawn
        again = self._asked_again
        read = (self._sent if self._ledger.read is None else self._ledger.read) + again * len(self._prefix)
        return Cost(1 + again, read, drawn + again, self._ledger.cached)

    def arrived(self) -> list[Proposal]:
        """What can be had without waiting. One whose token was not shown is left to be iterated."""
        self._parse_arrived()
        taken: list[Proposal] = []
        while self._ready and not self._undecided and self._ready[0].token_id is not None:
            taken.append(self._handed(self._ready.popleft()))
        return taken

    def __aiter__(self) -> AsyncIterator[Proposal]:
        return self

    async def __anext__(self) -> Proposal:
        while not self._ready or self._undecided:
            if self._ended:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            if not self._events.arrived:
                await self._wait()
            self._parse_arrived()
        proposal = self._ready.popleft()
        if proposal is HIDDEN:
            return await self._reveal()
        return self._handed(proposal)

    @property
    def _undecided(self) -> bool:
        """Whether the next event tells if the only proposal left was the end."""
        return self._silent and len(self._ready) == 1 and not self._ended

    def _handed(self, proposal: Proposal) -> Proposal:
        if proposal.token_id is not None:
            self._prefix.append(proposal.token_id)
        return proposal

    async def _reveal(self) -> Proposal:
        if not self._recover:
            raise MalformedTopK("The upstream swallowed a token that it was made to draw.")
        await self._events.aclose()  # a server with one slot could not answer the next call otherwise
        self._asked_again += 1
        ended = self._ledger.hid_only_its_end() and self._temperature == 0
        proposal = await self._box.shown_again(self._prefix, ended=ended)
        return self._box.hidden_end(proposal) if ended else proposal

    async def _wait(self) -> None:
        try:
            if not await self._events.wait():
                self._end()
        except UpstreamError as error:
            if self._ledger.finish is None:
                raise
            self._error = error if isinstance(error, MalformedTopK) else None  # the answer itself was complete
            self._end()

    def _parse_arrived(self) -> None:
        arrived = self._events.arrived
        while arrived and not self._ended:
            try:
                self._parse(arrived.popleft())
            except UpstreamError as error:
                self._fail(error)
            except (KeyError, TypeError, AttributeError, IndexError, ValueError):
                self._fail(MalformedTopK("The upstream's answer does not have the shape of its dialect."))
        if self._ended:
            arrived.clear()

    def _parse(self, payload: bytes) -> None:
        if payload == b"[DONE]":
            self._end()
            return
        chunk = self._read(parsed(payload))
        if "choices" not in chunk or chunk.get("error"):
            raise error_from(200, error_of(chunk) or {})
        if usage := chunk.get("usage"):
            self._read_usage(usage)
        choice = self._ledger.only(chunk["choices"])
        if choice is not None:
            self._parse_choice(choice)

    def _parse_choice(self, choice: dict[str, Any]) -> None:
        if self._left > 0:
            self._ledger.open_to(choice)
            before = self._ledger.positions
            for proposal in self._proposals(choice) if choice.get("logprobs") else ():
                self._take(proposal)
                if self._ended:
                    return
            if self._ledger.positions == before and self._ledger.unlisted(choice):
                self._take(HIDDEN)
        self._look_for_end(choice)
        if not self._ledger.read_end(choice):
            raise UpstreamUnreachable("The upstream broke off its answer.")

    def _read_usage(self, usage: dict[str, Any]) -> None:
        self._ledger.read_usage(usage)

    def _proposals(self, choice: dict[str, Any]) -> Iterator[Proposal]:
        return self._box.proposals(choice)

    def _look_for_end(self, choice: dict[str, Any]) -> None:
        """Of the latest token: whether the black box ended with it, or the next event will tell."""
        reason, listed = choice.get("finish_reason"), bool(choice.get("logprobs"))
        if reason == "stop" and self._ready and self._ledger.all_shown and (listed or self._silent):
            self._ready[-1] = self._box.ending(self._ready[-1], choice)
        self._silent = self._box.ends_apart and listed and reason is None and choice.get("text") == ""

    def _take(self, proposal: Proposal) -> None:
        self._ready.append(proposal if self.sent is None else self.sent.marked(proposal, self._box.rules.least))
        self._ledger.positions += 1
        self._left -= 1
        if proposal.token_id is None:
            self._ended = True  # what follows was drawn after a token that we cannot name

    def _end(self) -> None:
        """The upstream said all it has to say; see whether it also showed all it drew."""
        self._ended = True
        if self._error is not None:
            return
        if self._ledger.finish is None:
            self._fail(UpstreamUnreachable("The upstream's answer was cut off."))
            return
        self._events.finish()
        try:
            hidden = self._ledger.ended()
        except MalformedTopK as error:
            self._error = error
            return
        if self._left > 0 and hidden:
            self._ready.append(HIDDEN)

    def _fail(self, error: UpstreamError) -> None:
        self._ended = True
        self._error = error
        self._events.broke(error)
