"""The black box's lists along a whole prompt, for scoring it: in one call where the upstream can, else step by step."""

from collections.abc import AsyncGenerator, Sequence
from typing import Final

from deltaserve.errors import UnsupportedParameter
from deltaserve.server.decoding.protocols import Block, DraftParams
from deltaserve.server.upstream.base import ProbedUpstream
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.listing.choosing import cheapest
from deltaserve.server.upstream.listing.generate import Generate
from deltaserve.server.upstream.listing.methods import NAMES, complete
from deltaserve.server.upstream.listing.one_prompt import Echo, PromptLogprobs
from deltaserve.server.upstream.listing.prompt_list import POSITIONS, PromptList
from deltaserve.server.upstream.listing.steps import Steps

Portion = tuple[Block, int]  # and the calls that it took
# Not by a grammar: it would generate a prompt of thousands of tokens one by one, on one slot.
_FOR_PROMPTS: Final = tuple(name for name in NAMES if name != "grammar")


def require_scoring(box: ProbedUpstream) -> None:
    """Raises UnsupportedParameter, saying what is missing, where no prompt can be scored."""
    if not box.capabilities.ids_in:
        raise UnsupportedParameter(
            "`echo` with `logprobs` needs a black box that takes token ids as its prompt, and this one takes text "
            "only: serve the model with vLLM or llama.cpp, or send one of the two fields.",
            param="echo",
        )


async def prompt_lists(
    box: CompletionsBox,
    token_ids: Sequence[int],
    params: DraftParams,
    *,
    goes_on: bool = True,
    max_context: int | None = None,
) -> AsyncGenerator[Portion, None]:
    """M's lists after token_ids[:i], i = 1 … n − 1, in order, some in each block. Raises UpstreamError.

    The list after the whole prompt, with M's draw there, may come last; it does where something `goes_on` from there
    and the method tells draws. `max_context`: tokens that M takes, prompt and answer.
    """
    length = len(token_ids) if goes_on else len(token_ids) - 1
    if length < 1:
        return
    full = max_context is not None and len(token_ids) >= max_context
    match cheapest(box, _FOR_PROMPTS) or Steps(box):
        case PromptLogprobs() as method:
            ask = method.filled_block if full else method.block
            yield _whole(await ask(token_ids[:1], token_ids[1:], params)), 1
        case (Echo() | Generate()) as method:
            if len(token_ids) > 1:
                yield await _without_draw(method, box, token_ids, full)
        case (PromptList() | Steps()) as method:
            for first in range(1, length + 1, POSITIONS):
                drafted = token_ids[first : min(first + POSITIONS - 1, length)]
                block = _whole(await method.block(token_ids[:first], drafted, params))
                yield block, len(block.proposals) if method.span == 1 else 1


async def _without_draw(method: Echo | Generate, box: CompletionsBox, token_ids: Sequence[int], full: bool) -> Portion:
    """The lists before each token; by a step the last of a prompt that leaves no room for the token of such a call."""
    if not full:
        return Block(None, await method.lists(token_ids[:1], token_ids[1:]), len(token_ids), 1), 1
    lists = await method.lists(token_ids[:1], token_ids[1:-1]) if len(token_ids) > 2 else []
    lists += await Steps(box).lists(token_ids[:-1], token_ids[-1:])
    return Block(None, lists, 2 * len(token_ids) - 2, 2), 2


def _whole(block: Block) -> Block:
    complete(block.proposals)
    return block
