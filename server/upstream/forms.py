"""What a black box is sent of an answer's grammar, and what its lists then are.

It is sent where the answer it begins is then what the constraint says, exactly:

- A black box with the same grammar engine as ours allows what we allow, token by token. Its lists may be masked: of the
  allowed ids alone, as in vLLM and SGLang.
- Another engine may allow more or less. What a masked list leaves out may then be allowed here, and nothing tells its
  number. An unmasked list does not depend on the grammar, and what is drawn under it is a guess.
"""

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, Literal

from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.upstream.base import Capabilities

_LARK: Final = "%llguidance {}\n"  # by which llama.cpp and llguidance itself know Lark
_KEPT: Final = 32
_MOST_REFUSED: Final = 256

Written = Literal["lark", "schema"]


@dataclass(frozen=True, slots=True)
class Sent:
    """A grammar with a call."""

    grammar: str
    fields: dict[str, Any]  # of the call's body
    same: bool  # the black box allows what we allow: what it draws is drawn from that
    masked: bool

    def marked(self, proposal: Proposal, least: int) -> Proposal:
        """A position of the call. `least`: entries that a list has, unless nothing else is allowed."""
        if proposal.token_id is None or not proposal.top_ids.size:
            return proposal
        whole = self.masked and proposal.top_ids.size < least
        return replace(proposal, held=True, masked=self.masked, whole=whole)


def written(facts: Capabilities, grammar: str, *, whole_lists: bool) -> Written | None:
    """How the grammar is written for this black box; None where it is not sent.

    `whole_lists`: lists must be of the whole vocabulary.
    """
    if not facts.holds_forms or (facts.list_masked and (whole_lists or not facts.same_forms)):
        return None
    if facts.same_forms:
        return "lark" if lark_of(grammar) is not None else None
    return "schema" if schema_of(grammar) is not None else None


def lark_of(grammar: str) -> str | None:
    """A grammar of llguidance's, serialised or Lark, as Lark; None where it is several."""
    alone = _serialised(grammar)
    if alone is None:
        lark = None if _is_json(grammar) else grammar
    else:
        schema = alone.get("json_schema")
        lark = alone.get("lark_grammar") if schema is None else f"start: %json {json.dumps(schema)}"
    return lark if lark is None or lark.lstrip().startswith(_LARK[:11]) else _LARK + lark


def schema_of(grammar: str) -> Any:
    """The JSON Schema that is all of the grammar; None where there is none."""
    alone = _serialised(grammar)
    return None if alone is None else alone.get("json_schema")


def _is_json(grammar: str) -> bool:
    return grammar.lstrip().startswith("{")


@lru_cache(_KEPT)
def _serialised(grammar: str) -> dict[str, Any] | None:
    if not _is_json(grammar):
        return None
    grammars = json.loads(grammar).get("grammars", [])
    return grammars[0] if len(grammars) == 1 else None


class Refused:
    """Grammars that the black box did not take. One that a client makes up must not keep others from being sent."""

    def __init__(self) -> None:
        self._grammars: dict[str, None] = {}

    def __contains__(self, grammar: str) -> bool:
        return grammar in self._grammars

    def add(self, grammar: str) -> None:
        self._grammars[grammar] = None
        if len(self._grammars) > _MOST_REFUSED:
            del self._grammars[next(iter(self._grammars))]
