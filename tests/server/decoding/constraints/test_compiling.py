"""Grammars of a vocabulary: what is refused, what is kept, and how forced text becomes tokens."""

import asyncio
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import pytest
from llguidance import LLMatcher, LLTokenizer

from deltaserve.errors import BadRequest, RateLimited
from deltaserve.server.decoding.constraints import compiling, matching
from deltaserve.server.decoding.constraints.compiling import GrammarCompiler
from deltaserve.server.decoding.constraints.constraint import Constraint
from deltaserve.server.decoding.constraints.grammar import Grammar, compiled, parsing_vocabulary
from deltaserve.server.decoding.constraints.matching import Matcher, Place
from deltaserve.server.grammars.texts import choice_grammar
from tests.support.letters import Letters, regex

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        LLMatcher.grammar_from_regex("(a"),
        LLMatcher.grammar_from_json_schema('{"not": {"type": "string"}}'),
    ],
)
async def test_a_grammar_that_cannot_be_used_is_a_bad_request_about_its_field(text: str) -> None:
    with pytest.raises(BadRequest, match="cannot be used") as refused:
        await GrammarCompiler(Letters()).check(text, "response_format")
    assert refused.value.param == "response_format"


async def test_the_keyword_that_no_grammar_keeps_is_named() -> None:
    with pytest.raises(BadRequest, match="uniqueItems"):
        await GrammarCompiler(Letters()).check(LLMatcher.grammar_from_json_schema('{"uniqueItems": true}'))


async def test_a_tokenizer_without_bytes_of_its_own_is_refused() -> None:
    with pytest.raises(BadRequest, match="bytes"):
        await GrammarCompiler(Letters(joins=False)).check(regex("a").grammar)


async def test_the_latest_grammars_are_kept() -> None:
    compiler = GrammarCompiler(Letters(), kept=2)
    a, b = [await compiler.grammar(regex(text)) for text in "ab"]
    assert await compiler.grammar(regex("a")) is a
    await compiler.grammar(regex("c"))
    assert await compiler.grammar(regex("a")) is a
    assert await compiler.grammar(regex("b")) is not b
    assert await compiler.grammar(None) is None


async def test_a_grammar_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = GrammarCompiler(Letters(), longest_s=0.01)
    monkeypatch.setattr(compiling, "compiled", lambda text, parsing: time.sleep(0.2))
    with pytest.raises(BadRequest, match="simpler"):
        await compiler.grammar(regex("b"))


async def test_a_grammar_that_many_ask_for_at_once_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def slowly(text: str, parsing: LLTokenizer) -> Grammar:
        begun.append(text)
        time.sleep(0.05)
        return compiled(text, parsing)

    monkeypatch.setattr(compiling, "compiled", slowly)
    compiler = GrammarCompiler(Letters())
    found = await asyncio.gather(*(compiler.grammar(regex("ab")) for _ in range(8)))
    assert len(begun) == 1
    assert all(grammar is found[0] for grammar in found)


async def test_a_grammar_that_waits_behind_others_is_not_the_clients_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(compiling, "compiled", lambda text, parsing: go_on.wait(10.0))
    compiler = GrammarCompiler(Letters(), longest_s=0.05)
    asked = [compiler.grammar(regex(text)) for text in ("a", "b", "c")]
    errors = await asyncio.gather(*asked, return_exceptions=True)
    go_on.set()
    assert Counter(map(type, errors)) == {BadRequest: 2, RateLimited: 1}


async def test_definitions_within_each_other_are_compiled_however_many() -> None:
    def within(n: int) -> dict[str, object]:
        return {"type": "object", "properties": {"a": {"$ref": f"#/$defs/d{n}"}}, "required": ["a"]}

    chain = {f"d{n}": within(n + 1) for n in range(1200)} | {"d1200": {"type": "null"}}
    schema = LLMatcher.grammar_from_json_schema(json.dumps({**within(0), "$defs": chain}))
    assert (await GrammarCompiler(Letters()).grammar(Constraint(schema))) is not None


async def test_of_many_options_one_is_taken() -> None:
    texts = ["".join("abcdefghij"[int(digit)] for digit in str(n)) for n in range(2500)]
    grammar = await GrammarCompiler(Letters()).grammar(Constraint(choice_grammar(texts)))
    assert grammar is not None
    matcher = Matcher(grammar)
    place = matcher.start
    for token_id in (2, 4, 9, 9):
        assert token_id in matcher.follow(place).text
        place = place.then(token_id)
    assert matcher.follow(place).accepting


def _walked(grammar: Grammar, steps: int) -> int:
    """How many letters `a` are followed before the grammar becomes too much."""
    matcher = Matcher(grammar)
    place = matcher.start
    for step in range(steps):
        try:
            matcher.follow(place)
        except BadRequest:
            return step
        place = place.then(0)
    return steps


async def test_an_answer_that_is_too_much_for_its_grammar_leaves_it_to_the_others() -> None:
    compiler, nested = GrammarCompiler(Letters()), regex("((a{0,300}){0,300}){0,300}")
    grammar = await compiler.grammar(nested)
    assert grammar is not None
    met = _walked(grammar, 500)
    assert met < 500
    assert _walked(grammar, met - 5) == met - 5
    another = await compiler.grammar(nested)
    assert another is not None
    assert another is not grammar
    assert _walked(another, met - 5) == met - 5


@dataclass(frozen=True)
class Spaced(Letters):
    """Puts a space before a text, as some tokenizers do, and takes a special token's name for the token."""

    vocab_size: int = 16
    special_ids: frozenset[int] = frozenset({11, 15})

    def token_bytes(self, token_id: int) -> bytes:
        return {12: b" a", 13: b"\n", 14: b"bc", 15: b"<|x|>"}.get(token_id) or super().token_bytes(token_id)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        rest = f" {text}".encode()
        while rest:
            names = {self.token_bytes(i): i for i in range(16)} | {b" ": 12}
            size = next(n for n in range(len(rest), 0, -1) if rest[:n] in names or n == 1)
            ids.append(names.get(rest[:size], 13))
            rest = rest[size:]
        return ids


async def test_forced_text_becomes_tokens_with_its_bytes_alone() -> None:
    vocabulary = Spaced()
    matcher = Matcher(compiled(regex("abcbc").grammar, parsing_vocabulary(vocabulary)))
    place, said = matcher.start, b""
    while (follow := matcher.follow(place)).text.count:
        token_id = int(np.flatnonzero(follow.text.mask)[0])
        said += vocabulary.token_bytes(token_id)
        place = place.then(token_id)
    assert said == b"abcbc"
    assert follow.accepting


@dataclass(frozen=True)
class Marked(Letters):
    """With a token that is no special one, as families write their calls between."""

    vocab_size: int = 16

    def token_bytes(self, token_id: int) -> bytes:
        return b"<tool_call>" if token_id == 14 else super().token_bytes(token_id)


def test_a_parser_that_goes_back_over_a_token_named_by_its_id_stands_where_it_should(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(matching, "_KEPT", 0)  # it goes to each place
    text = LLMatcher.grammar_from_lark('start: "b" <[14]> /[a-d]{3,9}/ <[14]> "b"')
    grammar, way = compiled(text, parsing_vocabulary(Marked())), [1, 14, 0, 1, 2, 3, 2, 14, 1]

    def followed(*depths: int) -> list[list[int]]:
        matcher = Matcher(grammar)
        places = list(accumulate(way, Place.then, initial=matcher.start))
        return [matcher.follow(places[depth]).text.ids.tolist() for depth in depths]

    expected = [followed(depth)[0] for depth in range(len(way) + 1)]
    depths = [*range(10), 2, 7, 1, 8, 9, 7, 0, 4]
    assert followed(*depths) == [expected[depth] for depth in depths]
