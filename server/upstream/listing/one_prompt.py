"""A text scored as one prompt on `/v1/completions`: vLLM's `prompt_logprobs`, and `echo` with `logprobs`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from deltaserve.errors import MalformedTopK, UpstreamRefused
from deltaserve.server.decoding.protocols import Block, DraftParams, Proposal
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.http.refusals import error_from, error_of
from deltaserve.server.upstream.listing.methods import ONE_TOKEN, MethodName, OnePrompt
from deltaserve.server.upstream.topk import TopKRules, ranked_proposal

_NOT_THE_DIALECT = "The upstream's answer does not have the shape of its dialect."


class PromptLogprobs(OnePrompt):
    """One call, whatever the length, that also tells each token's own log-probability where the list lacks it.

    The whole prompt is computed: such a request reads no prefix cache. So it pays where the prefix is short, and where
    everything has to be computed anyway. Lists are raw whatever the server's logprobs mode; only the one of a block's
    last position is that of a drawn token.
    """

    name: ClassVar[MethodName] = "prompt_logprobs"

    async def lists(self, prefix: Sequence[int], text: Sequence[int]) -> list[Proposal]:
        body = self._body([*prefix, *text], 0.0, ONE_TOKEN)
        del body["logprobs"]
        return read_prompt_logprobs(await _only_choice(self._box, body), prefix, text, self._box.rules)

    async def block(self, token_ids: Sequence[int], drafted: Sequence[int], params: DraftParams) -> Block:
        """M's list after token_ids + drafted[:i], i = 0 … m. Raises UpstreamError; a partial answer is none."""
        box, prompt = self._box, [*token_ids, *drafted]
        temperature = box.temperature_for(params.temperature)
        choice = await _only_choice(box, self._body(prompt, temperature, params))
        lists = read_prompt_logprobs(choice, token_ids, drafted, box.rules)
        lists.append(self._draw(choice) or await box.shown_again(prompt))
        return Block(box.drawn_at(temperature), lists, len(prompt), 1)

    async def filled_block(self, token_ids: Sequence[int], text: Sequence[int], params: DraftParams) -> Block:
        """M's lists before each id of a text that leaves no room for the token which such a call must generate.

        Raises UpstreamError.
        """
        block = await self.block(token_ids, text[:-1], params)
        *lists, end = block.proposals
        if text[-1] not in end.top_ids:
            end = await self._forced([*token_ids, *text[:-1]], text[-1])
        return replace(block, proposals=[*lists, end])

    def _body(self, prompt: list[int], temperature: float, params: DraftParams) -> dict[str, Any]:
        return self._box.request(prompt, temperature, params) | {"max_tokens": 1, "prompt_logprobs": self._box.rules.k}

    def _draw(self, choice: dict[str, Any]) -> Proposal | None:
        """What the black box itself drew behind the prompt; None where it ended at once without showing its end."""
        if choice.get("finish_reason") == "stop" and not choice.get("logprobs"):
            return None
        try:
            (drawn,) = self._box.proposals(choice)
            return self._box.ending(drawn, choice)
        except (KeyError, TypeError, AttributeError, IndexError, ValueError):
            raise MalformedTopK(_NOT_THE_DIALECT) from None

    async def _forced(self, token_ids: list[int], token_id: int) -> Proposal:
        """The list after `token_ids` and the log-probability of `token_id`, which M is made to draw."""
        box = self._box
        if box.capabilities.raw_logprobs:  # no others stay what they are under a bias
            proposal = await box.step_with(token_ids, 0.0, box.drawing(token_id))
            if proposal is not None and proposal.token_id == token_id:
                return proposal
        raise UpstreamRefused(
            "The prompt fills the black box's context, and the black box does not tell the log-probability of its last "
            "token in another way: leave one token out of the prompt."
        )


class Echo(OnePrompt):
    """The answer begins with the prompt, its lists included."""

    name: ClassVar[MethodName] = "echo"

    async def lists(self, prefix: Sequence[int], text: Sequence[int]) -> list[Proposal]:
        # One token is generated because not every server takes 0; its list stands behind those that are read.
        body = self._box.request([*prefix, *text], 0.0, ONE_TOKEN) | {"echo": True}
        choice = await _only_choice(self._box, body)
        try:
            columns = _cut(choice["logprobs"], len(prefix), len(text))
            lists = list(self._box.proposals({"logprobs": columns}))
        except (KeyError, TypeError, AttributeError, IndexError, ValueError):
            raise MalformedTopK("The upstream does not echo the prompt with its log-probabilities.") from None
        if [proposal.token_id for proposal in lists] != list(text):
            raise MalformedTopK("The upstream echoes other tokens than those it was sent.")
        return lists


def read_prompt_logprobs(
    choice: Mapping[str, Any], prefix: Sequence[int], text: Sequence[int], rules: TopKRules
) -> list[Proposal]:
    """vLLM's list of {id: {logprob, rank}} (null first) as the lists before each id of `text`."""
    positions = choice.get("prompt_logprobs")
    if not isinstance(positions, list) or len(positions) != len(prefix) + len(text):
        raise MalformedTopK("The upstream gave no prompt log-probabilities for every position of the prompt.")
    try:
        return [_ranked(token, entry, rules) for token, entry in zip(text, positions[len(prefix) :], strict=True)]
    except (KeyError, TypeError, AttributeError, ValueError):
        raise MalformedTopK("The upstream's prompt log-probabilities do not have the shape of vLLM's.") from None


def _ranked(token: int, position: Mapping[str, Mapping[str, Any]], rules: TopKRules) -> Proposal:
    """The k best of one position; vLLM adds the prompt's own token when it is not among them."""
    if str(token) not in position:
        raise MalformedTopK("The upstream scored other tokens than those it was sent.")
    if len(position) <= rules.k < position[str(token)]["rank"]:
        raise MalformedTopK("The upstream listed fewer tokens than were asked for.")
    ranked = sorted((entry["rank"], int(i), entry["logprob"]) for i, entry in position.items())
    return ranked_proposal(token, [i for _, i, _ in ranked], [logprob for *_, logprob in ranked], rules)


def _cut(logprobs: dict[str, Any], start: int, count: int) -> dict[str, Any]:
    columns = ("content",) if logprobs.get("content") is not None else ("tokens", "top_logprobs")
    return {name: logprobs[name][start : start + count] for name in columns}


async def _only_choice(box: CompletionsBox, body: dict[str, Any]) -> dict[str, Any]:
    """Of one call that is answered in one piece. Raises UpstreamError."""
    answer = await box.post(body)
    if error := error_of(answer):
        raise error_from(200, error)
    try:
        (choice,) = answer["choices"]
    except (KeyError, TypeError, ValueError):
        raise MalformedTopK(_NOT_THE_DIALECT) from None
    if not isinstance(choice, dict):
        raise MalformedTopK(_NOT_THE_DIALECT)
    return choice
