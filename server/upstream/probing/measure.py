"""The measurements of the probe: each asks the black box a tiny question and looks at the answer."""

from math import exp
from typing import Any

from deltaserve.errors import MalformedTopK, UncorrectableUpstream, UpstreamRefused
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.http.refusals import Refusal
from deltaserve.server.upstream.http.transport import Transport

Table = dict[int, float]  # id to log-probability, nats

_DRAFT_TOKENS = 8  # enough for speculative decoding to show itself
SHARPENED = 1.4  # slope of a list at temperature ½ against one at 1: 1 when raw, 2 when processed
_SAME_LIST = 0.3  # share of the listed mass two lists of one position may differ in: caches and batches add noise


class Probe:
    """One black box under examination, and the prompt it is examined with."""

    def __init__(self, transport: Transport, box: CompletionsBox, prompt: list[int]) -> None:
        self.box = box
        self._transport = transport
        self._prompt = prompt

    async def listed(self, temperature: float) -> Table:
        """Top-k right after the prompt, asked for at `temperature`; refuses an upstream that lists nothing."""
        drafted = await self._drafted(self._prompt, temperature, 1)
        if not drafted or not len(drafted[0].top_ids):
            raise UncorrectableUpstream("The upstream gives no log-probabilities on /v1/completions: they are needed.")
        return _table(drafted[0])

    async def is_raw(self) -> bool:
        """Whether the list stays the same at another temperature; when that cannot be seen, the safe answer."""
        at_one, at_half = await self.listed(1.0), await self.listed(0.5)
        sharper = slope(at_one, at_half)
        return sharper is not None and sharper < SHARPENED

    async def check_continuation(self) -> None:
        """Going on from its own first token must show the list it showed itself: the prompt is used as it is sent."""
        drafted = await self._drafted(self._prompt, 0.0, _DRAFT_TOKENS)
        first = drafted[0].token_id if drafted else None
        if first is None or len(drafted) < 2 or not len(drafted[1].top_ids):
            return  # it ended at once: nothing to compare
        if not self._can_be_sent([*self._prompt, first]):
            return  # a text-only upstream, and a token that is no text of its own
        again = await self._drafted([*self._prompt, first], 0.0, 1)
        if not again or difference(_table(drafted[1]), _table(again[0])) > _SAME_LIST:
            raise UncorrectableUpstream(
                "The upstream does not continue from its own tokens: it changes prompts (a chat template, a system "
                "prompt or special tokens are added to /v1/completions)."
            )

    async def asked_for_everything(self) -> dict[str, int]:
        """vLLM: asking for all log-probabilities makes it name its vocabulary's size and its limit."""
        try:
            answer = await self.whole(logprobs=-1)
        except Refusal as refusal:
            named = {"vocab_size": refusal.asked_k, "max_k": refusal.largest_k}
            return {name: value for name, value in named.items() if value}
        except UpstreamRefused:
            return {}
        try:
            everything = len(answer["choices"][0]["logprobs"]["top_logprobs"][0])
        except (KeyError, TypeError, IndexError):
            return {}
        return {"vocab_size": everything, "max_k": everything} if everything > self.box.capabilities.k else {}

    async def ends_with(self, token_id: int) -> bool:
        """Whether an answer that is made to begin with this token ends there, where two tokens are asked for."""
        try:
            answer = await self.whole(max_tokens=2, **self.box.drawing(token_id))
            (choice,) = answer["choices"]
            drawn = [proposal.token_id for proposal in self.box.proposals(choice)]
            return choice.get("finish_reason") == "stop" and drawn == [token_id]
        except (UpstreamRefused, MalformedTopK, KeyError, TypeError, ValueError, AttributeError, IndexError):
            return False

    async def reads_its_cache(self) -> bool | None:
        """True when a second identical call says that it read cached tokens; None when nothing is said."""
        long = (self._prompt * (256 // len(self._prompt) + 1))[: (self.box.capabilities.max_context or 256) // 2]
        try:
            await self.whole(prompt=self._sent_as(long))
            usage = (await self.whole(prompt=self._sent_as(long))).get("usage") or {}
        except UpstreamRefused:
            return None
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        return True if cached else None  # none of a prompt this short is no proof: caches hold whole blocks

    async def whole(self, **changes: Any) -> Any:
        """One token in one piece; `changes` replace fields of the dialect's own request."""
        return await self.box.post(self.box.request(self._prompt, 0.0, DraftParams(0.0, 1)) | changes)

    def _sent_as(self, token_ids: list[int]) -> Any:
        return self.box.request(token_ids, 0.0, DraftParams(0.0, 1))["prompt"]

    def _can_be_sent(self, token_ids: list[int]) -> bool:
        try:
            self._sent_as(token_ids)
        except UpstreamRefused:
            return False
        return True

    async def _drafted(self, prompt: list[int], temperature: float, max_tokens: int) -> list[Proposal]:
        async with self.box.draft(prompt, DraftParams(temperature, max_tokens)) as draft:
            return [proposal async for proposal in draft]


def _table(proposal: Proposal) -> Table:
    return dict(zip(proposal.top_ids.tolist(), proposal.top_logprobs.tolist(), strict=True))


def slope(base: Table, other: Table) -> float | None:
    """Least-squares slope of `other` against `base` over the ids in both; None when they say too little."""
    pairs = [(base[i], other[i]) for i in base.keys() & other.keys()]
    mean_x, mean_y = (sum(values) / len(pairs) for values in zip(*pairs, strict=True)) if pairs else (0.0, 0.0)
    spread = sum((x - mean_x) ** 2 for x, _ in pairs)
    return sum((x - mean_x) * (y - mean_y) for x, y in pairs) / spread if spread > 1e-3 else None


def difference(one: Table, other: Table) -> float:
    """Total variation over the listed ids, as a share of the listed mass."""
    one, other = ({i: exp(value) for i, value in table.items()} for table in (one, other))
    mass = max(sum(one.values()), sum(other.values()))
    return (
        sum(abs(one.get(i, 0.0) - other.get(i, 0.0)) for i in one.keys() | other.keys()) / (2 * mass) if mass else 1.0
    )
