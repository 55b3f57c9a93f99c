"""What the black boxes have in common that name tokens by text, and mostly take their prompts as text too."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar, Final, Literal

import structlog

from deltaserve.errors import MalformedTopK, UpstreamRefused
from deltaserve.server.decoding.protocols import NO_FLOATS, NO_IDS, DraftParams, Proposal
from deltaserve.server.upstream.base import Capabilities, TokenizerView, UpstreamDraft
from deltaserve.server.upstream.call_draft import HIDDEN, CompletionDraft
from deltaserve.server.upstream.cost import Cost
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.http.transport import EventStream, Transport
from deltaserve.server.upstream.text.lists import Entry, Reading, Told
from deltaserve.server.upstream.text.names import names_of
from deltaserve.server.upstream.text.prefixes import PlainText, Wording, longest_exact

NO_TEXT: Final = (
    "The upstream takes its prompt as text only, and these tokens would not come back from theirs: "
    "an upstream that accepts token ids is needed."
)
UNKNOWN: Final = Proposal(None, NO_IDS, NO_FLOATS, bridged=True)


class TextBox(CompletionsBox):
    """A black box whose lists are texts. A dialect says how ids are worded (`wording`) and what a chunk tells."""

    ends_apart = True
    hidden_draws: ClassVar[Literal["none", "unknown", "some"]] = "unknown"  # ends are often left out
    cuts: ClassVar[bool] = False  # as in `Reading`
    takes_bias: ClassVar[bool] = True  # `drawing` may make it draw a token

    def __init__(self, transport: Transport, tokenizer: TokenizerView, capabilities: Capabilities) -> None:
        self._names = names_of(tokenizer)
        super().__init__(transport, tokenizer, capabilities)

    def told(self, choice: dict[str, Any]) -> Iterator[Told | None]:
        """The positions of one chunk as they were told; None where some may be missing."""
        raise NotImplementedError

    def adopt(self, capabilities: Capabilities, *, trusts_draws: bool = True) -> None:
        super().adopt(capabilities, trusts_draws=trusts_draws)
        self.reading = Reading(self._names, self._rules, cuts=self.cuts, spare=self.spare)
        self._wording = self.wording()

    def wording(self) -> Wording:
        """How ids are said to it."""
        return PlainText(self._tokenizer, self._capabilities.begins, self._capabilities.reads_specials)

    def worded(self, token_ids: list[int]) -> Any:
        """What is sent in the place of these ids. Raises UpstreamRefused where nothing is read as exactly them."""
        if self._capabilities.ids_in:
            return token_ids
        sent = self._wording.exact(token_ids)
        if sent is None:
            raise UpstreamRefused(NO_TEXT)
        return sent

    def proposals(self, choice: dict[str, Any]) -> Iterator[Proposal]:
        return self.read(choice, self.reading)

    def read(self, choice: dict[str, Any], reading: Reading) -> Iterator[Proposal]:
        """The positions of one chunk; HIDDEN where some may be missing. Raises MalformedTopK."""
        for told in self.told(choice):
            if told is None:
                yield HIDDEN
                return
            yield reading.proposal(told)

    def draft_of(
        self, events: EventStream, prefix: list[int], temperature: float, max_tokens: int, *, recover: bool = True
    ) -> CompletionDraft:
        return TextDraft(self, events, prefix, temperature, max_tokens, recover=recover)

    @asynccontextmanager
    async def _draft(self, token_ids: list[int], params: DraftParams) -> AsyncIterator[UpstreamDraft]:
        found = longest_exact(token_ids, self._wording.exact) if not self._capabilities.ids_in else (None, [])
        if found is None:
            raise UpstreamRefused(NO_TEXT)
        _, bridge = found
        if bridge:
            async with self._bridged(token_ids, bridge, params) as draft:
                yield draft
            return
        async with super()._draft(token_ids, params) as draft:
            yield draft

    @asynccontextmanager
    async def _bridged(
        self, token_ids: list[int], bridge: list[int], params: DraftParams
    ) -> AsyncIterator[UpstreamDraft]:
        """Asks from before the bridge, until it is drawn again; else nothing is known behind it."""
        structlog.get_logger(__name__).info("upstream_prefix_is_no_text", tokens=len(bridge))
        start, spent = token_ids[: len(token_ids) - len(bridge)], Cost()
        for temperature, fields in self._ways_over(params.temperature, bridge):
            wanted = replace(params, max_tokens=len(bridge) + (1 if fields else params.max_tokens))
            async with self.opened(self.request(start, temperature, wanted) | fields) as events:
                draft = self.draft_of(events, [*start], temperature, wanted.max_tokens, recover=False)
                if await _crosses(draft, bridge):
                    yield Beyond(draft, spent, by_force=bool(fields))
                    return
                spent += draft.cost
        yield Beyond(None, spent)

    def _ways_over(self, temperature: float, bridge: list[int]) -> Iterator[tuple[float, dict[str, Any]]]:
        """Temperatures and fields to ask with: its own draws first, then with a bias that leaves it little choice."""
        wanted, greedy = self.temperature_for(temperature), self.temperature_for(0.0)
        yield wanted, {}
        if self.takes_bias and self._capabilities.raw_logprobs and self._capabilities.raw_with_bias:
            yield greedy, {"logit_bias": {str(token_id): 100.0 for token_id in bridge}}
        elif wanted != greedy:
            yield greedy, {}


class TextDraft(CompletionDraft):
    """Proposals of one call to a black box of texts."""

    def __init__(
        self,
        box: TextBox,
        events: EventStream,
        prefix: list[int],
        temperature: float,
        max_tokens: int,
        *,
        recover: bool = True,
        reading: Reading | None = None,
    ) -> None:
        super().__init__(box, events, prefix, temperature, max_tokens, recover=recover)
        self._texts, self._sent = box, len(prefix)
        self._reading = reading or replace(box.reading, by_draw=temperature == 0)

    def _read_usage(self, usage: dict[str, Any]) -> None:
        super()._read_usage(usage)
        counts = prompt_counts(usage)
        if self._texts.capabilities.counts_prompts and counts and self._sent not in counts:
            raise MalformedTopK("The upstream read another prompt than it was sent: it counts other tokens in it.")

    def _proposals(self, choice: dict[str, Any]) -> Iterator[Proposal]:
        return self._texts.read(choice, self._reading)


async def _crosses(draft: CompletionDraft, bridge: list[int]) -> bool:
    """Whether its first draws are the bridge; it then stands behind them."""
    try:
        for wanted in bridge:
            proposal = await anext(draft, None)
            if proposal is None or proposal.token_id != wanted:
                return False
    except (MalformedTopK, UpstreamRefused):  # a draw that is not shown
        return False
    return True


class Beyond:
    """What a call draws behind the bridge; without one, that nothing is known there."""

    def __init__(self, draft: CompletionDraft | None, spent: Cost, *, by_force: bool = False) -> None:
        self._draft, self._by_force = draft, by_force
        self._spent = spent  # on calls that did not get over the bridge
        self._first = True

    @property
    def temperature(self) -> float | None:
        return None if self._draft is None or self._by_force else self._draft.temperature

    @property
    def cost(self) -> Cost:
        return self._spent if self._draft is None else self._spent + self._draft.cost

    def arrived(self) -> list[Proposal]:
        if self._first or self._draft is None or self._by_force:
            return []
        return [replace(proposal, bridged=True) for proposal in self._draft.arrived()]

    def __aiter__(self) -> AsyncIterator[Proposal]:
        return self

    async def __anext__(self) -> Proposal:
        if not self._first and (self._draft is None or self._by_force):
            raise StopAsyncIteration
        self._first = False
        if self._draft is None:
            return UNKNOWN
        proposal = await anext(self._draft)
        token_id = None if self._by_force else proposal.token_id  # drawn under a bias: the list alone counts
        return replace(proposal, token_id=token_id, bridged=True)


def prompt_counts(usage: Mapping[str, Any]) -> set[int]:
    """A prompt's tokens as `usage` has them: with and without those that it found in its cache, if it counts these."""
    count, cached = usage.get("prompt_tokens"), usage.get("cached_beside", 0)
    return {count, count + cached} if type(count) is int else set()


def chat_shaped(logprobs: Mapping[str, Any]) -> Iterator[Told]:
    """The positions of `logprobs.content`."""
    for entry in logprobs["content"]:
        yield Told(entry_of(entry), [*map(entry_of, entry["top_logprobs"])])


def entry_of(told: Mapping[str, Any]) -> Entry:
    """A chat-shaped entry: text, log-probability, bytes where it has some, its id where a server adds one."""
    raw, token_id = told.get("bytes"), told.get("token_id", told.get("id"))
    return Entry(
        told["token"],
        told.get("logprob"),
        None if raw is None else bytes(raw),
        token_id if type(token_id) is int else None,
    )
