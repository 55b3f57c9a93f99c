"""Hermes' calls, as Qwen 2.5 and Qwen 3 write them."""

import pytest

from deltaserve.server.answers.parts import CallBegun, Content, Part, Special
from deltaserve.server.answers.tools.hermes import Hermes
from tests.support.answers import call, read, readings

WEATHER = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
TIME = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
PARIS = '{"city": "Paris"}'

ANSWERS: dict[str, tuple[str, list[Part]]] = {
    "text alone": ("It is 3 < 4 degrees.", [Content("It is 3 < 4 degrees.")]),
    "spaces alone": (" \n", [Content(" \n")]),
    "a call": (WEATHER, call("get_weather", PARIS)),
    "text before it": ("Let me see.\n" + WEATHER, [Content("Let me see.\n"), *call("get_weather", PARIS)]),
    "spaces beside it": ("\n\n" + WEATHER + "\n", call("get_weather", PARIS)),
    "two": (WEATHER + "\n" + TIME, [*call("get_weather", PARIS), *call("now", "{}", 1)]),
    "two in one mark": (
        '<tool_call>\n{"name": "now", "arguments": {}}\n{"name": "now", "arguments": {}}\n</tool_call>',
        [*call("now", "{}"), *call("now", "{}", 1)],
    ),
    "text between them": (
        WEATHER + "\nAnd now:" + TIME,
        [*call("get_weather", PARIS), Content("\nAnd now:"), *call("now", "{}", 1)],
    ),
    "arguments as they are written": (
        '<tool_call>{"name":"f","arguments":{ "a":[1,{"b" : "}\\"{"}],\n"é":-1.5e3,"n":null }}</tool_call>',
        call("f", '{ "a":[1,{"b" : "}\\"{"}],\n"é":-1.5e3,"n":null }'),
    ),
    "arguments before the name": (
        '<tool_call>{"arguments": {"a": 1}, "id": 7, "name": "f"}</tool_call>',
        call("f", '{"a": 1}'),
    ),
    "arguments in a string": (
        '<tool_call>{"name": "f", "arguments": "{\\"a\\": \\"\\u00e9\\"}"}</tool_call>',
        call("f", '{"a": "é"}'),
    ),
    "no arguments": ('<tool_call>{"name": "now"}</tool_call>', call("now", "{}")),
    "no end mark": (WEATHER[: -len("</tool_call>")], call("get_weather", PARIS)),
    "cut in the mark": ("Well <tool_c", [Content("Well <tool_c")]),
    "cut behind the mark": ("Well <tool_call>\n", [Content("Well ")]),
    "cut in the name": ('Well <tool_call>\n{"name": "get_wea', [Content("Well ")]),
    "cut behind the name": ('<tool_call>\n{"name": "f"', [CallBegun(0, "", "f")]),
    "cut in the arguments": ('<tool_call>\n{"name": "f", "arguments": {"a": "x\\', call("f", '{"a": "x\\')),
    "cut in arguments in a string": ('<tool_call>\n{"name": "f", "arguments": "{\\"a\\u00', call("f", '{"a')),
    "cut in arguments before the name": ('<tool_call>\n{"arguments": {"a": 1}, ', []),
    "no object behind the mark": ("A <tool_call> is a mark.", [Content("A <tool_call> is a mark.")]),
    "an object without a name": ('<tool_call>{"a": 1}</tool_call>', [Content('<tool_call>{"a": 1}</tool_call>')]),
    "arguments that are no JSON": (
        '<tool_call>{"name": "f", "arguments": {\'a\': 1}}\n</tool_call>!',
        [*call("f", "{'a': 1}}\n"), Content("!")],
    ),
    "arguments that do not end": (
        '<tool_call>{"name": "f", "arguments": {"a": 1</tool_call> Yes.',
        [*call("f", '{"a": 1'), Content(" Yes.")],
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_reads_the_same_wherever_it_is_cut_with_marks_as_tokens_and_as_letters(case: str) -> None:
    text, parts = ANSWERS[case]
    assert readings(Hermes(), text) == [parts]


def test_a_mark_in_a_string_of_the_arguments_is_text_whether_it_is_a_token_or_not() -> None:
    text = '<tool_call>{"name": "f", "arguments": {"a": "</tool_call>"}}</tool_call>'
    assert readings(Hermes(), text) == [call("f", '{"a": "</tool_call>"}')]


def test_where_marks_are_tokens_their_letters_are_text() -> None:
    special = {"<tool_call>": 1, "</tool_call>": 2}
    assert read(Hermes().parser((), special), [WEATHER]) == [Content(WEATHER)]
    call_with_letters = [Special(1, "<tool_call>"), '{"name": "now"}</tool_call>']
    assert read(Hermes().parser((), special), call_with_letters) == [*call("now", "{}"), Content("</tool_call>")]


def test_names_come_first_and_arguments_piece_by_piece() -> None:
    parser = Hermes().parser((), {})
    assert parser.push('<tool_call>\n{"name": "f", "ar') != [] and parser.called
    assert [part.text for part in parser.push('guments": {"a"') if not isinstance(part, CallBegun)] == ['{"a"']
    assert [part.text for part in parser.push(": 1}}") if not isinstance(part, CallBegun)] == [": 1}"]


def test_calls_have_ids_of_their_own() -> None:
    parts = [part for part in Hermes().parser((), {}).push(WEATHER + TIME) if isinstance(part, CallBegun)]
    assert len({part.id for part in parts}) == 2 and all(part.id.startswith("call_") for part in parts)
