"""What the dialects of `/v1/completions` share: one streamed call is one draft, parsed event by event."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from deltaserve.errors import MalformedTopK, UpstreamError, UpstreamRefused
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.base import Capabilities, TokenizerView, UpstreamDraft
from deltaserve.server.upstream.call_draft import HIDDEN, CompletionDraft, Reader
from deltaserve.server.upstream.forms import Refused, Sent, lark_of, schema_of, written
from deltaserve.server.upstream.http.continuity import Continuity
from deltaserve.server.upstream.http.throttle import Throttle
from deltaserve.server.upstream.http.transport import EventStream, Framing, Timeouts, Transport
from deltaserve.server.upstream.topk import TopKRules, is_text

PATH = "/v1/completions"
_HOT, _HOT_TRIES = 2.0, 3  # temperature at which, and how often, an upstream that cannot be forced is asked again


@dataclass(frozen=True, slots=True)
class Temperatures:
    """At which temperatures an upstream really draws, greedy (0) aside."""

    lowest: float = 0.0
    highest: float = float("inf")

    def clamp(self, wanted: float) -> float:
        return wanted if wanted == 0 else min(max(wanted, self.lowest), self.highest)


class CompletionsBox:
    """A black box behind `/v1/completions`; a dialect says what to send (`request`) and how to read (`proposals`)."""

    path: ClassVar[str] = PATH
    framing: ClassVar[Framing] = "sse"
    takes_ids: ClassVar[bool] = True  # as its prompt; of some it is found out whether they do
    takes_chats: ClassVar[bool] = False  # and nothing else
    spare: ClassVar[int] = 0  # alternatives asked for beside the k that are used
    temperatures = Temperatures()
    ends_apart = False  # an answer's end is told by an event of its own, after the last token's
    # Tokens, ends too, that it draws and does not show. "none": its draws may be trusted; "some": it means no harm.
    hidden_draws: ClassVar[Literal["none", "unknown", "some"]] = "none"
    counts_prompt: ClassVar[bool] = False  # its text offsets may begin behind the prompt's characters

    def __init__(self, transport: Transport, tokenizer: TokenizerView, capabilities: Capabilities) -> None:
        self.swallowed_positions = 0
        self.blind_positions = 0
        self.trusts_draws = self.hidden_draws == "none"
        self._refused = Refused()
        self._transport = transport
        self._tokenizer = tokenizer
        self.adopt(capabilities)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def adopt(self, capabilities: Capabilities, *, trusts_draws: bool = True) -> None:
        """From now on these facts are true: the black box has changed. Draws once doubted are not trusted again."""
        size = self._tokenizer.vocab_size
        self._capabilities = capabilities
        self._rules = TopKRules(capabilities.k, size, max(size, capabilities.vocab_size or size))
        self.trusts_draws = self.trusts_draws and trusts_draws

    def knowing(self, **facts: Any) -> Self:
        """The same black box on the same connections, with these facts in the place of others."""
        box = copy(self)
        box.adopt(replace(self._capabilities, **facts))
        return box

    def learn_end(self, token_id: int) -> None:
        """It ends its answers with this token."""
        known = self._capabilities.end_ids
        if token_id not in known:
            self._capabilities = replace(self._capabilities, end_ids=(*known, token_id))

    def ending(self, proposal: Proposal, choice: Mapping[str, Any]) -> Proposal:
        """The proposal with its token as an end, where this chunk shows that the black box ended with it.

        An end token has no text. One that the chunk shows as text is what was said last: some servers say "stop" for
        other reasons, and some do not list the end token at all. Nor is white space where not everything is shown: it
        may have been trimmed, and every answer would end at its first line.
        """
        token_id = proposal.token_id
        if choice.get("finish_reason") != "stop" or token_id is None:
            return proposal
        own, text = self._tokenizer.token_bytes(token_id), (choice.get("text") or "").encode()
        trimmed = not own.strip() and self.hidden_draws != "none"
        if trimmed or not is_text(own) or text.endswith(own.strip() or own):
            return proposal
        self.learn_end(token_id)
        return replace(proposal, end_id=token_id)

    def draft(self, token_ids: Sequence[int], params: DraftParams) -> AbstractAsyncContextManager[UpstreamDraft]:
        """One streamed call from `token_ids`; leaving the context closes the connection."""
        return self._draft(list(token_ids), params)

    def opened(self, body: Mapping[str, Any]) -> AbstractAsyncContextManager[EventStream]:
        """One streamed call; leaving the context closes the connection."""
        return self._transport.stream(self.path, body, self.framing)

    async def post(self, body: Mapping[str, Any], path: str | None = None) -> Any:
        """One call answered in one piece; the fields of a stream are left out of `body`. Raises UpstreamError."""
        plain = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
        return await self._transport.post_json(path or self.path, plain)

    def reader(self) -> Reader:
        """What makes the events of one call chunks in the shape of `/v1/completions`; it may remember earlier ones."""
        return _as_it_is

    async def step_with(self, prefix: Sequence[int], temperature: float, fields: dict[str, Any]) -> Proposal | None:
        """The first position of a call with further body `fields`; None where it ends without one.

        Raises UpstreamError, also where the position's token is not shown.
        """
        ids = list(prefix)
        body = joined(self.request(ids, temperature, DraftParams(temperature, 1)), fields)
        async with self.opened(body) as events:
            async for proposal in self.draft_of(events, ids, temperature, 1, recover=False):
                return proposal
        return None

    def temperature_for(self, wanted: float) -> float:
        """What to ask for. A processed list is what the token was drawn from; at temperature 1 that is p_M as well."""
        facts = self._capabilities
        raw = facts.raw_logprobs or (wanted == 0 and facts.greedy_raw)
        return self.temperatures.clamp(wanted) if raw else 1.0

    @property
    def tokenizer(self) -> TokenizerView:
        """The pair's."""
        return self._tokenizer

    @property
    def timeouts(self) -> Timeouts:
        """How long this black box may take."""
        return self._transport.timeouts

    @property
    def rules(self) -> TopKRules:
        """What a list must be."""
        return self._rules

    async def ping(self) -> None:
        await self._transport.revalidate()
        await self._transport.get_json("/v1/models")

    async def aclose(self) -> None:
        await self._transport.aclose()

    def revalidate_with(self, continuity: Continuity) -> None:
        """From now on a call after a lost connection waits until it is known to reach the same black box."""
        self._transport.continuity = continuity

    def problem(self) -> str | None:
        """Why no draft can be had now, as far as is known without asking."""
        continuity = self._transport.continuity
        return continuity.problem if continuity is not None else None

    @property
    def doubtful(self) -> bool:
        """Whether a connection was lost, and it is not known yet whether it is still the same black box."""
        continuity = self._transport.continuity
        return continuity is not None and continuity.doubtful

    @property
    def throttle(self) -> Throttle:
        """Which holds back its calls."""
        return self._transport.throttle

    def request(self, token_ids: list[int], temperature: float, params: DraftParams) -> dict[str, Any]:
        """The call's body: every sampling field explicit, because servers have defaults of their own."""
        raise NotImplementedError

    def proposals(self, choice: dict[str, Any]) -> Iterator[Proposal]:
        """The positions of one chunk; HIDDEN where the upstream skipped some. Raises UpstreamError."""
        raise NotImplementedError

    def forcing(self) -> dict[str, Any] | None:
        """Body fields that make the next token a plain one without changing the list, where the dialect has such."""
        return None

    def drawing(self, token_id: int) -> dict[str, Any]:
        """Body fields that make this token the next one, if no logit is very large."""
        return {"logit_bias": {str(token_id): 100.0}}

    def held_to_grammar(self, lark: str) -> dict[str, Any] | None:  # noqa: ARG002
        """Body fields that hold the answer to a grammar, where the dialect has such."""
        return None

    def held_to_schema(self, schema: Any) -> dict[str, Any] | None:  # noqa: ARG002
        """The same for a JSON schema."""
        return None

    def sent_with(self, params: DraftParams) -> Sent | None:
        """What is sent of the answer's grammar; None where it has none, or would not be of use here."""
        grammar, facts = params.grammar, self._capabilities
        if grammar is None or grammar in self._refused:
            return None
        way = written(facts, grammar, whole_lists=params.whole_lists)
        if way is None:
            return None
        lark = lark_of(grammar) if way == "lark" else None
        fields = self.held_to_schema(schema_of(grammar)) if lark is None else self.held_to_grammar(lark)
        return None if fields is None else Sent(grammar, fields, facts.same_forms, facts.list_masked)

    def drawn_at(self, temperature: float) -> float | None:
        """`Draft.temperature` of what was asked for at `temperature`.

        None where draws are not trusted: if it depends on a token whether it is shown, those that are shown are no
        fair draws, and nor is what comes of accepting some and drawing the hidden ones anew.
        """
        return temperature if self.trusts_draws else None

    async def shown_again(self, prefix: list[int], *, ended: bool = False) -> Proposal:  # noqa: ARG002 (of texts)
        """The top-k right after `prefix`, where the draw was swallowed; HIDDEN itself when it stays unknown.

        `ended`: it is known to be the best one there, and to have ended the answer.

        Raises UpstreamError; also where it stays unknown although this server has no reason to hide tokens.
        """
        self.swallowed_positions += 1
        self.trusts_draws = False
        fault: UpstreamError = MalformedTopK("The upstream counts more tokens than it showed.")
        for temperature, fields in self._visible_draws():
            try:
                return await self._list_with(prefix, temperature, fields)
            except (UpstreamRefused, MalformedTopK) as error:
                fault = error
        if self.hidden_draws == "none":
            raise fault
        self.blind_positions += 1
        return HIDDEN

    def hidden_end(self, proposal: Proposal) -> Proposal:
        """The list of a position where a greedy answer ended and its last token was not shown: it was the best one."""
        best = int(proposal.top_ids[0]) if proposal.top_ids.size else None
        if best not in self._tokenizer.special_ids:
            return proposal
        self.learn_end(best)
        return replace(proposal, end_id=best)

    def _visible_draws(self) -> Iterator[tuple[float, dict[str, Any]]]:
        """Temperatures and fields to ask a position again with, whose token may then be one that is shown."""
        if (forcing := self.forcing()) is not None:
            yield 0.0, forcing
        else:  # the list is the same whatever is drawn
            yield from ((self.temperature_for(_HOT), {}),) * _HOT_TRIES

    async def _list_with(self, prefix: list[int], temperature: float, fields: dict[str, Any]) -> Proposal:
        proposal = await self.step_with(prefix, temperature, fields)
        if proposal is None:
            raise MalformedTopK("The upstream shows no top-k where it swallowed a token.")
        return Proposal(None, proposal.top_ids, proposal.top_logprobs)

    @asynccontextmanager
    async def _draft(self, token_ids: list[int], params: DraftParams) -> AsyncIterator[UpstreamDraft]:
        temperature, sent = self.temperature_for(params.temperature), self.sent_with(params)
        body = self.request(token_ids, temperature, params)
        try:
            async with self.opened(body if sent is None else joined(body, sent.fields)) as events:
                draft = self.draft_of(events, token_ids, temperature, params.max_tokens)
                draft.sent = sent
                yield draft
        except UpstreamRefused:
            if sent is not None:  # whoever asks again does so without it
                self._refused.add(sent.grammar)
            raise

    def draft_of(
        self, events: EventStream, prefix: list[int], temperature: float, max_tokens: int, *, recover: bool = True
    ) -> CompletionDraft:
        """The draft that one call's events make."""
        return CompletionDraft(self, events, prefix, temperature, max_tokens, recover=recover)


def joined(body: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The body with further fields; of an object that both have, the parts."""
    whole = dict(body)
    for name, value in fields.items():
        known = whole.get(name)
        whole[name] = known | value if isinstance(known, dict) and isinstance(value, dict) else value
    return whole


def _as_it_is(message: Any) -> Any:
    return message
