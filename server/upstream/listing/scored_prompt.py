"""The black box's list at every position of a block, by one prompt that holds it all: vLLM's `prompt_logprobs`.

One prompt instead of one for each position, but the whole of it is computed: such a request reads no prefix cache.
So it pays where the prefix is short, and where everything has to be computed anyway: a prompt to be scored.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import Block, DraftParams, Proposal
from deltaserve.server.upstream.http.refusals import error_from, error_of
from deltaserve.server.upstream.topk import TopKRules, ranked_proposal

if TYPE_CHECKING:
    from deltaserve.server.upstream.dialects.completions import CompletionsBox


async def score_in_one_prompt(
    box: "CompletionsBox", token_ids: Sequence[int], drafted: Sequence[int], temperature: float, params: DraftParams
) -> Block:
    """M's list after token_ids + drafted[:i], i = 0 … m. Raises UpstreamError; a partial answer is none.

    Prompt lists are raw whatever the server's logprobs mode: only the last list is that of a drawn token.
    """
    prompt = [*token_ids, *drafted]
    body = box.request(prompt, temperature, params) | {"max_tokens": 1, "prompt_logprobs": box.rules.k}
    del body["stream"], body["stream_options"]  # prompt log-probabilities come in one piece only
    answer = await box.asked(body)
    if error := error_of(answer):
        raise error_from(200, error)
    try:
        (choice,) = answer["choices"]
        lists = _within(box, choice, prompt, len(token_ids))
        end = None if _ends_unseen(choice) else _after(box, choice)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError):
        raise MalformedTopK("The upstream's answer does not have the shape of its dialect.") from None
    lists.append(await box.shown_again(prompt) if end is None else end)
    return Block(box.drawn_at(temperature), lists)


def _ends_unseen(choice: Mapping[str, Any]) -> bool:
    """Whether the answer ended at once and the token that ended it is not shown."""
    return choice.get("finish_reason") == "stop" and not choice.get("logprobs")


def _within(box: "CompletionsBox", choice: dict[str, Any], prompt: list[int], prefix: int) -> list[Proposal]:
    positions = choice["prompt_logprobs"]
    if len(positions) != len(prompt):
        raise MalformedTopK("The upstream scored another number of tokens than the prompt has.")
    return [_listed(token_id, positions[at], box.rules) for at, token_id in enumerate(prompt) if at >= prefix]


def _after(box: "CompletionsBox", choice: dict[str, Any]) -> Proposal:
    """What the black box itself drew behind the prompt."""
    (last,) = box.proposals(choice)
    return box.ending(last, choice)


def _listed(token_id: int, position: Mapping[str, Any], rules: TopKRules) -> Proposal:
    """One position's map: the prompt's own token first, then the k most probable by rank."""
    ids = [int(name) for name in position]
    if len(ids) <= rules.k < position[str(token_id)]["rank"]:
        raise MalformedTopK("The upstream listed fewer tokens than were asked for.")
    return ranked_proposal(token_id, ids, [entry["logprob"] for entry in position.values()], rules)
