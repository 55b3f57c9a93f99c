"""The measurements of the probe: each asks the black box a tiny question and looks at the answer."""

from dataclasses import dataclass
from typing import Any

from deltaserve.errors import MalformedTopK, UncorrectableUpstream, UpstreamRefused
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.comparison import SAME_LIST, difference, slope
from deltaserve.server.upstream.dialects.completions import CompletionsBox, joined
from deltaserve.server.upstream.http.refusals import Refusal

_CERTAIN = (
    "The upstream gives one token all of the probability and the others none: these are no log-probabilities of its "
    "model."
)
_DRAFT_TOKENS = 8  # enough for speculative decoding to show itself
SHARPENED = 1.4  # slope of a list at temperature ½ against one at 1: 1 when raw, 2 when processed


class WithoutLists(UncorrectableUpstream):
    """It answers, and lists nothing."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One black box under examination, and the prompt it is examined with."""

    box: CompletionsBox
    prompt: list[int]

    async def listed(self, temperature: float) -> Proposal:
        """Top-k right after the prompt, asked for at `temperature`; refuses an upstream that lists nothing."""
        drafted = await self._drafted(self.prompt, temperature, 1)
        if not drafted or not len(drafted[0].top_ids):
            raise WithoutLists(f"The upstream gives no log-probabilities on {self.box.path}: they are needed.")
        if len(drafted[0].top_ids) == 1 < self.box.rules.least and drafted[0].log_cap is None:
            raise UncorrectableUpstream(_CERTAIN)
        return drafted[0]

    async def is_raw(self) -> bool:
        """Whether the list stays the same at another temperature; when that cannot be seen, the safe answer."""
        at_one, at_half = await self.listed(1.0), await self.listed(0.5)
        sharper = slope(at_one, at_half)
        return sharper is not None and sharper < SHARPENED

    async def greedy_is_raw(self) -> bool:
        """Whether a greedy answer's list is the one at temperature 1, where lists change with the temperature."""
        at_one, greedy = await self.listed(1.0), await self.greedy_list()
        sharper = slope(at_one, greedy)
        return sharper is not None and sharper < SHARPENED and difference(at_one, greedy) <= SAME_LIST

    async def greedy_list(self) -> Proposal:
        """What is listed right after the prompt where temperature 0 is asked for, whatever is known of such lists."""
        return await Probe(self.box.knowing(greedy_raw=True), self.prompt).listed(0.0)

    async def is_raw_with_bias(self) -> bool:
        """Whether the list stays the same where a bias makes another token than the best one be drawn."""
        plain = await self.listed(0.0)
        if plain.top_ids.size < 2:
            return False
        forced = self.box.drawing(int(plain.top_ids[1]))
        try:
            biased = await self.box.step_with(self.prompt, self.box.temperature_for(0.0), forced)
        except (UpstreamRefused, MalformedTopK):
            return False
        return biased is not None and difference(plain, biased) <= SAME_LIST

    async def check_continuation(self) -> None:
        """Going on from its own first tokens must show the list it showed itself: the prompt is used as it is sent."""
        drafted = await self._drafted(self.prompt, 0.0, _DRAFT_TOKENS)
        for at in range(1, len(drafted)):
            said = [proposal.token_id for proposal in drafted[:at]]
            prefix = [*self.prompt, *(i for i in said if i is not None)]
            if None in said or not drafted[at].top_ids.size:
                return  # it ended at once: nothing to compare
            if self._can_be_sent(prefix):
                await self._check_goes_on(prefix, drafted[at])
                return

    async def _check_goes_on(self, prefix: list[int], told: Proposal) -> None:
        again = await self._drafted(prefix, 0.0, 1)
        if not again or difference(told, again[0]) > SAME_LIST:
            raise UncorrectableUpstream(
                "The upstream does not continue from its own tokens: it changes prompts (a chat template, a system "
                f"prompt or special tokens are added on {self.box.path})."
            )

    async def sizes(self) -> dict[str, int]:
        """vLLM: asked for all log-probabilities, it names its vocabulary's size and its limit."""
        try:
            answer = await self.whole(logprobs=-1)
        except Refusal as refusal:
            named = {"vocab_size": refusal.understood_k, "max_k": refusal.largest_k}
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
            body = self.box.request(self.prompt, 0.0, DraftParams(0.0, 2))
            answer = await self.box.post(joined(body, self.box.drawing(token_id)))
            (choice,) = answer["choices"]
            drawn = [proposal.token_id for proposal in self.box.proposals(choice)]
            return choice.get("finish_reason") == "stop" and drawn == [token_id]
        except (UpstreamRefused, MalformedTopK, KeyError, TypeError, ValueError, AttributeError, IndexError):
            return False

    async def reads_its_cache(self) -> bool | None:
        """True when a second identical call says that it read cached tokens; None when nothing is said."""
        long = (self.prompt * (256 // len(self.prompt) + 1))[: (self.box.capabilities.max_context or 256) // 2]
        try:
            body = self.box.request(long, 0.0, DraftParams(0.0, 1))
            await self.box.post(body)
            usage = (await self.box.post(body)).get("usage") or {}
        except UpstreamRefused:
            return None
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        return True if cached else None  # none of a prompt this short is no proof: caches hold whole blocks

    async def whole(self, **changes: Any) -> Any:
        """One token in one piece; `changes` replace fields of the dialect's own request."""
        return await self.box.post(self.box.request(self.prompt, 0.0, DraftParams(0.0, 1)) | changes)

    def _can_be_sent(self, token_ids: list[int]) -> bool:
        try:
            self.box.request(token_ids, 0.0, DraftParams(0.0, 1))
        except UpstreamRefused:
            return False
        return True

    async def _drafted(self, prompt: list[int], temperature: float, max_tokens: int) -> list[Proposal]:
        async with self.box.draft(prompt, DraftParams(temperature, max_tokens)) as draft:
            return [proposal async for proposal in draft]
