"""Grammars that are no JSON Schema: a regular expression, a choice of texts, a grammar, tags within free text."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from llguidance import LLMatcher
from llguidance.gbnf_to_lark import any_to_lark

from deltaserve.errors import BadRequest
from deltaserve.server.grammars.conjunctions import MOST as MOST_TOGETHER
from deltaserve.server.grammars.json_schema import Spacing, json_grammar
from deltaserve.server.grammars.patterns import require_bounded

MAX_CHOICES: Final = 5_000
MAX_GRAMMAR: Final = 100_000  # characters
MAX_TAGS: Final = 256

_QUOTED: Final = re.compile(r'"(?:\\.|[^"\\])*"|/(?:\\.|[^/\\\n])+/|//.*')
_SCHEMA: Final = re.compile(r"%json\s*")
_DECODER: Final = json.JSONDecoder()

_FREE_TEXT: Final = r"TAG_TEXT: /(.|\n)*/"


def regex_grammar(pattern: str) -> str:
    """The whole answer matches `pattern`, in Rust's syntax. Raises BadRequest."""
    require_bounded(pattern)
    return str(LLMatcher.grammar_from_regex(pattern))


def choice_grammar(texts: Sequence[str]) -> str:
    """The answer is one of `texts`. Raises BadRequest."""
    if len(texts) > MAX_CHOICES:
        raise BadRequest(f"it has {len(texts):,} texts; at most {MAX_CHOICES:,} are taken")
    _require_short("".join(texts))
    return "start: " + "\n  | ".join(json.dumps(text, ensure_ascii=False) for text in dict.fromkeys(texts))


def text_grammar(text: str) -> str:
    """From Lark, or from EBNF as llama.cpp's GBNF has it. Raises BadRequest."""
    _require_short(text)
    try:
        grammar = str(any_to_lark(text))
        _refuse_long_work(grammar)
        return grammar
    except RecursionError:
        raise BadRequest("its groups are nested too deeply") from None
    except BadRequest:
        raise
    except Exception as error:  # noqa: BLE001 - the converter raises its base class for most faults
        raise BadRequest(f"it is neither Lark (a rule `start:`) nor GBNF (a rule `root ::=`): {error}") from None


def tag_grammar(
    structures: Sequence[Mapping[str, Any]], triggers: Sequence[str], special: Mapping[str, int], spacing: Spacing
) -> str:
    """Free text in which each trigger begins a tag: `begin`, what its schema allows, `end`. Raises BadRequest.

    `special`: texts of special tokens → ids; a trigger, a beginning or an end that is one is that token.
    """
    if len(structures) > MAX_TAGS:
        raise BadRequest(f"it has {len(structures):,} structures; at most {MAX_TAGS} are taken")
    names = " | ".join(f"tag_{i}" for i in range(len(structures)))
    lines = ["%llguidance {}", f"start: ({names})* tag_end", "tag_end: TAG_TEXT", _FREE_TEXT]
    for i, structure in enumerate(structures):
        lines += _tag(f"tag_{i}", structure, triggers, special, spacing)
    return "\n".join(lines)


def _tag(
    name: str, structure: Mapping[str, Any], triggers: Sequence[str], special: Mapping[str, int], spacing: Spacing
) -> list[str]:
    begin, end = structure["begin"], structure["end"]
    trigger = next((t for t in triggers if t and begin.startswith(t)), None)
    if trigger is None:
        raise BadRequest(f"none of the triggers begins the structure that begins with {json.dumps(begin[:40])}")
    body = json_grammar(structure["schema"], spacing).embedded
    rest = f"{_spelled(begin[len(trigger) :], special)} {body} {_spelled(end, special)}"
    if trigger in special:
        return [f"{name}: TAG_TEXT {_spelled(trigger, special)} {rest}"]
    return [f"{name}_trigger[lazy]: TAG_TEXT {_spelled(trigger, special)}", f"{name}: {name}_trigger {rest}"]


def _spelled(text: str, special: Mapping[str, int]) -> str:
    """In Lark: text, with special tokens by their ids."""
    if not text:
        return ""
    if not special:
        return json.dumps(text, ensure_ascii=False)
    parts = re.split("(" + "|".join(map(re.escape, sorted(special, key=len, reverse=True))) + ")", text)
    return " ".join(
        f"<[{special[part]}]>" if part in special else json.dumps(part, ensure_ascii=False) for part in parts if part
    )


def _refuse_long_work(text: str) -> None:
    """Of a grammar: terminals that must match many things at once, and schemas that are refused elsewhere."""
    bare = _QUOTED.sub("", text)
    if bare.count("&") + bare.count("~") > MOST_TOGETHER:
        raise BadRequest(f"it has more than {MOST_TOGETHER} `&` and `~`")
    for found in _SCHEMA.finditer(text):
        try:
            schema, _ = _DECODER.raw_decode(text, found.end())
        except ValueError:  # not JSON: the grammar's own reader says so
            continue
        json_grammar({k: v for k, v in schema.items() if k != "x-guidance"} if isinstance(schema, dict) else schema)


def _require_short(text: str) -> None:
    if len(text) > MAX_GRAMMAR:
        raise BadRequest(f"it has {len(text):,} characters; at most {MAX_GRAMMAR:,} are taken")
