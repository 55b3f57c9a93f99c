"""Whether the black box holds an answer to a form, which tokens it then allows, and whether it lists others.

It is asked for an object whose key is followed by `=`. That is no JSON, and only llguidance reads the option that asks
for it: an engine that writes it allows what ours allows. Others see a plain schema, which every engine takes.
"""

from typing import Any, Final

from deltaserve.errors import MalformedTopK, UpstreamRefused, UpstreamTimeout, UpstreamUnreachable
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.base import TokenizerView
from deltaserve.server.upstream.call_draft import CompletionDraft
from deltaserve.server.upstream.comparison import SAME_LIST, difference
from deltaserve.server.upstream.dialects.completions import CompletionsBox, joined

_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"a": {"const": 1}},
    "required": ["a"],
    "additionalProperties": False,
    "x-guidance": {"whitespace_flexible": False, "key_separator": "="},
}
_OURS: Final = b'{"a"=1}'
_TOKENS: Final = len(_OURS) + 1  # at most, with the end
NONE: Final = {"holds_forms": False, "same_forms": False, "list_masked": False}


async def forms(box: CompletionsBox, prompt: list[int], *, breaks: bool = False) -> dict[str, bool]:
    """As facts for `Capabilities`. Raises UpstreamError of a plain call only.

    `breaks`: a call with a form that breaks, or takes too long, is raised too. It is a server that was seen to take it.
    """
    fields = box.held_to_schema(_SCHEMA)
    if fields is None:
        return NONE
    (plain,) = (await _drafted(box, prompt, 1, {}))[:1] or (None,)
    try:
        held = await _drafted(box, prompt, _TOKENS, fields)
    except (UpstreamRefused, MalformedTopK):
        return NONE
    except (UpstreamUnreachable, UpstreamTimeout):
        if breaks:
            raise
        return NONE
    return NONE if plain is None or not held else _read(plain, held, box.tokenizer)


async def _drafted(box: CompletionsBox, prompt: list[int], tokens: int, fields: dict[str, Any]) -> list[Proposal]:
    temperature = box.temperature_for(0.0)
    body = joined(box.request(prompt, temperature, DraftParams(0.0, tokens)), fields)
    async with box.opened(body) as events:
        draft = CompletionDraft(box, events, [*prompt], temperature, tokens, recover=False)
        return [proposal async for proposal in draft]


def _read(plain: Proposal, held: list[Proposal], tokenizer: TokenizerView) -> dict[str, bool]:
    drawn = [proposal.token_id for proposal in held]
    text = b"".join(tokenizer.token_bytes(i) for i in drawn if i is not None and i not in tokenizer.special_ids)
    listed = [tokenizer.token_bytes(i).strip() for i in held[0].top_ids.tolist()]
    masked = all(_OURS.startswith(raw) for raw in listed)
    unmasked = difference(plain, held[0]) <= SAME_LIST
    if not text.lstrip().startswith(b"{") or None in drawn or masked == unmasked:
        return NONE
    return {"holds_forms": True, "same_forms": text == _OURS, "list_masked": masked}
