"""Each family's calls, written by hand after its chat template and documentation: none comes from a running model."""

import pytest

from deltaserve.server.answers.parts import CallBegun, Content, Part, Reasoning
from deltaserve.server.answers.tools.choosing import FORMATS
from deltaserve.server.answers.tools.protocol import Tool
from tests.support.answers import call, read, readings

TOOLS = (
    Tool(
        "get_weather",
        {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "hourly": {"type": "boolean"},
                "note": {"type": ["string", "null"]},
                "places": {"type": "array", "items": {"type": "string"}},
                "where": {"$ref": "#/$defs/point"},
                "kind": {"enum": [1, 2]},
                "any": {},
            },
            "required": ["city"],
            "$defs": {"point": {"type": "object"}},
        },
    ),
    Tool("now"),
)
PARIS = '{"city": "Paris"}'
WEATHER = call("get_weather", PARIS)
NOW = call("now", "{}", 1)

Example = tuple[str, list[Part]]

QWEN3_CODER: dict[str, Example] = {
    "a call": (
        "I look.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n"
        "</tool_call>",
        [Content("I look.\n"), *WEATHER],
    ),
    "two": (
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>\n"
        "<tool_call>\n<function=now>\n</function>\n</tool_call>",
        [*WEATHER, *NOW],
    ),
    "without the outer mark": (
        "<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>",
        WEATHER,
    ),
    "types by the schema": (
        "<tool_call>\n<function=get_weather>\n<parameter=city>\n5\n</parameter>\n<parameter=days>\n5\n</parameter>\n"
        "<parameter=hourly>\nTrue\n</parameter>\n<parameter=note>\nnull\n</parameter>\n"
        '<parameter=places>\n["a",\n "b"]\n</parameter>\n<parameter=where>\n{"x": 1}\n</parameter>\n'
        "<parameter=kind>\n2\n</parameter>\n<parameter=any>\n[1]\n</parameter>\n<parameter=other>\n7\n</parameter>\n"
        "</function>\n</tool_call>",
        call(
            "get_weather",
            '{"city": "5", "days": 5, "hourly": true, "note": null, "places": ["a",\n "b"], "where": {"x": 1}, '
            '"kind": 2, "any": [1], "other": "7"}',
        ),
    ),
    "what does not fit its type is a string": (
        "<tool_call>\n<function=get_weather>\n<parameter=days>\nsoon\n</parameter>\n</function>\n</tool_call>",
        call("get_weather", '{"days": "soon"}'),
    ),
    "a string of lines, quotes and tags": (
        '<tool_call>\n<function=get_weather>\n<parameter=city>\n\n<b>"a\\n"</b> < é\n\n</parameter>\n'
        "</function>\n</tool_call>",
        call("get_weather", '{"city": "\\n<b>\\"a\\\\n\\"</b> < é\\n"}'),
    ),
    "in one line": (
        "<tool_call><function=get_weather><parameter=city>Paris</parameter></function></tool_call>",
        WEATHER,
    ),
    "no end of the function": ("<tool_call>\n<function=now>\n</tool_call>!", [*call("now", "{}"), Content("!")]),
    "cut in the name": ("So: <tool_call>\n<function=get_wea", [Content("So: ")]),
    "cut behind the name": ("<tool_call>\n<function=get_weather>\n", [CallBegun(0, "", "get_weather")]),
    "cut in a string": (
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nPar",
        call("get_weather", '{"city": "Par'),
    ),
    "cut in a number": (
        "<tool_call>\n<function=get_weather>\n<parameter=days>\n1",
        call("get_weather", '{"days": '),
    ),
    "a tag of another kind": ("<tool_call>\n<other>", [Content("<tool_call>\n<other>")]),
}

LLAMA3_JSON: dict[str, Example] = {
    "a call": ('{"name": "get_weather", "parameters": {"city": "Paris"}}', WEATHER),
    "with a type": ('{"type": "function", "name": "get_weather", "parameters": {"city": "Paris"}}', WEATHER),
    "behind the tag": ('<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}', WEATHER),
    "two": (
        '{"name": "get_weather", "parameters": {"city": "Paris"}}; {"name": "now", "parameters": {}}',
        [*WEATHER, *NOW],
    ),
    "two on two lines": (
        '{"name": "get_weather", "arguments": {"city": "Paris"}}\n{"name": "now", "arguments": {}}',
        [*WEATHER, *NOW],
    ),
    "text before the tag": (
        'So: <|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}',
        [Content("So: "), *WEATHER],
    ),
    "text": ("Paris has {braces}.", [Content("Paris has {braces}.")]),
    "a text in JSON": ('{"city": "Paris"}', [Content('{"city": "Paris"}')]),
    "a text in JSON that names": ('{"name": "Ann", "age": 3}', [Content('{"name": "Ann", "age": 3}')]),
    "cut before arguments": ('{"name": "get_weather", "para', [Content('{"name": "get_weather", "para')]),
    "cut in the arguments": ('{"name": "get_weather", "parameters": {"ci', call("get_weather", '{"ci')),
    "cut behind the tag": ('So: <|python_tag|>{"name": "get_', [Content("So: ")]),
}

PYTHONIC: dict[str, Example] = {
    "a call": ("[get_weather(city='Paris')]", WEATHER),
    "two": ('[get_weather(city="Paris"), now()]', [*WEATHER, *NOW]),
    "behind tags": ("<|python_start|>[get_weather(city='Paris')]<|python_end|>", WEATHER),
    "Python's values": (
        "[f(a=True, b=None, c=-1.5e3, d=['x', (1, 2), ], e={'k': False, \"l\": {}}, f=0x10, g=word)]",
        call(
            "f",
            '{"a": true, "b": null, "c": -1.5e3, "d": ["x", [1, 2]], "e": {"k": false, "l": {}}, "f": 16, "g": "word"}',
        ),
    ),
    "numbers beyond all bounds": ("[f(a=1e999, b=inf)]", call("f", '{"a": 1e999, "b": "inf"}')),
    "escapes": (
        "[f(a='it\\'s \"q\"\\n\\x41\\u00e9\\U0001F642\\\\ \\d', b=\"it's\")]",
        call("f", '{"a": "it\'s \\"q\\"\\nA\\u00e9🙂\\\\ \\\\d", "b": "it\'s"}'),
    ),
    "spaces": ("[ f( a = 1 ,\n b = 2 ) , g( ) ]", [*call("f", '{"a": 1, "b": 2}'), *call("g", "{}", 1)]),
    "text": ("[link](url) and [1, 2]", [Content("[link](url) and [1, 2]")]),
    "positions": ("[f(1)]", [Content("[f(1)]")]),
    "cut in the name": ("[get_wea", [Content("[get_wea")]),
    "cut in a string": ("[f(a='x\\", call("f", '{"a": "x')),
    "cut in a number": ("[f(a=1", call("f", '{"a": ')),
    "cut between": ("[f(a=1, b=[2, ", call("f", '{"a": 1, "b": [2')),
}

MISTRAL: dict[str, Example] = {
    "a list": ('[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}}]', WEATHER),
    "two in a list": (
        'So:[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Paris"}}, {"name": "now", "arguments": {}}]',
        [Content("So:"), *WEATHER, *NOW],
    ),
    "arguments before names": ('[TOOL_CALLS][{"arguments": {"city": "Paris"}, "name": "get_weather"}]', WEATHER),
    "names": (
        '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}[TOOL_CALLS]now[ARGS]{}',
        [*WEATHER, *NOW],
    ),
    "names with ids": ('[TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS]{"city": "Paris"}', WEATHER),
    "a name with an id that the template refuses": ("[TOOL_CALLS]now[CALL_ID]1[ARGS]{}", call("now", "{}")),
    "names alone": ('[TOOL_CALLS]get_weather{"city": "Paris"}', WEATHER),
    "cut in the name": ("So:[TOOL_CALLS]get_wea", [Content("So:")]),
    "cut in the arguments": ('[TOOL_CALLS]get_weather[ARGS]{"city": "Pa', call("get_weather", '{"city": "Pa')),
    "cut in a list": ('[TOOL_CALLS][{"name": "now"', [CallBegun(0, "", "now")]),
}

V3 = (
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
    '{"city": "Paris"}\n```<｜tool▁call▁end｜>'
)
DEEPSEEK_V3: dict[str, Example] = {
    "a call": ("So: " + V3 + "<｜tool▁calls▁end｜>", [Content("So: "), *WEATHER]),
    "two": (
        V3
        + "\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        [*WEATHER, *NOW],
    ),
    "cut in the name": ("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_wea", []),
    "cut in the arguments": (V3[: V3.index("aris")], call("get_weather", '{"city": "P')),
}

V31 = '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}<｜tool▁call▁end｜>'
DEEPSEEK_V31: dict[str, Example] = {
    "a call": ("So: " + V31 + "<｜tool▁calls▁end｜>", [Content("So: "), *WEATHER]),
    "two": (
        V31 + "<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        [*WEATHER, *NOW],
    ),
    "no arguments": (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜><｜tool▁call▁end｜>",
        call("now", "{}"),
    ),
    "no call": ("<｜tool▁calls▁begin｜>none", [Content("<｜tool▁calls▁begin｜>none")]),
    "cut in the name": ("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_wea", []),
    "cut in the arguments": (V31[: V31.index("aris")], call("get_weather", '{"city": "P')),
}

THOUGHT = "<|channel|>analysis<|message|>Paris, then.<|end|><|start|>assistant"
HARMONY: dict[str, Example] = {
    "an answer": (
        THOUGHT + "<|channel|>final<|message|>Rain.<|return|>",
        [Reasoning("Paris, then."), Content("Rain.")],
    ),
    "a call": (
        THOUGHT
        + '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Paris"}<|call|>',
        [Reasoning("Paris, then."), *WEATHER],
    ),
    "its recipient beside the role": (
        THOUGHT
        + ' to=functions.get_weather<|channel|>commentary <|constrain|>json<|message|>{"city": "Paris"}<|call|>',
        [Reasoning("Paris, then."), *WEATHER],
    ),
    "no end": (
        '<|channel|>commentary to=functions.get_weather<|message|>{"city": "Paris"}',
        WEATHER,
    ),
    "text before a call": (
        "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant"
        "<|channel|>commentary to=functions.now <|constrain|>json<|message|><|call|>",
        [Content("I look."), *call("now", "{}")],
    ),
    "a tool of its own": (
        '<|channel|>analysis to=browser.search code<|message|>{"q": 1}<|call|>',
        call("browser.search", '{"q": 1}'),
    ),
    "what it runs itself": (
        "<|channel|>analysis to=python code<|message|>print(1)<|call|>",
        call("python", "print(1)"),
    ),
    "a prompt that wrote the head": ("Rain.<|return|>", [Content("Rain.")]),
    "a prompt that wrote the channel": (" to=functions.now<|channel|>commentary<|message|>{}", call("now", "{}")),
    "cut in the head": (THOUGHT + "<|channel|>commentary to=functions.get_wea", [Reasoning("Paris, then.")]),
    "cut in the arguments": ('<|channel|>commentary to=functions.f<|message|>{"a', call("f", '{"a')),
}

GEMMA: dict[str, Example] = {
    "a call": ('I look.\n```tool_code\nget_weather(city="Paris")\n```', [Content("I look.\n"), *WEATHER]),
    "printed": ("```tool_code\nprint(get_weather(city='Paris'))\nprint(now())\n```", [*WEATHER, *NOW]),
    "another block": ("```python\nx = 1\n```", [Content("```python\nx = 1\n```")]),
    "no call": ("```tool_code\nx = 1\n```", [Content("```tool_code\nx = 1\n```")]),
    "cut in the name": ("```tool_code\nget_wea", []),
    "cut in the arguments": ("```tool_code\nf(a='x", call("f", '{"a": "x')),
}

FUNCTION_GEMMA: dict[str, Example] = {
    "a call": ("<start_function_call>call:get_weather{city:<escape>Paris<escape>}<end_function_call>", WEATHER),
    "two": (
        "<start_function_call>call:get_weather{city:<escape>Paris<escape>}<end_function_call>"
        "<start_function_call>call:now{}<end_function_call>",
        [*WEATHER, *NOW],
    ),
    "values": (
        'So:<start_function_call>call:f{a:1.5,b:true,c:[<escape>x, "y"<escape>,2],d:{e:null}}<end_function_call>',
        [Content("So:"), *call("f", '{"a": 1.5, "b": true, "c": ["x, \\"y\\"", 2], "d": {"e": null}}')],
    ),
    "no call": ("<start_function_call>x", [Content("<start_function_call>x")]),
    "cut in the name": ("<start_function_call>call:get_wea", []),
    "cut in a string": ("<start_function_call>call:f{a:<escape>x<es", call("f", '{"a": "x<es')),
}

GEMMA4: dict[str, Example] = {
    "a call": ('<|tool_call>call:get_weather{city:<|"|>Paris<|"|>}<tool_call|>', WEATHER),
}

FUNCTIONARY: dict[str, Example] = {
    "content": ("all\nIt rains.", [Content("It rains.")]),
    "a call": ('get_weather\n{"city": "Paris"}', WEATHER),
    "content and calls": (
        'all\nI look.>>>get_weather\n{"city": "Paris"}>>>now\n{}',
        [Content("I look."), *WEATHER, *NOW],
    ),
    "no recipient": ("It rains.", [Content("It rains.")]),
    "Python's prompt": ("all\n>>> x = 1\n>>>", [Content(">>> x = 1\n>>>")]),
    "cut in the arguments": ('f\n{"a', call("f", '{"a')),
}

FUNCTIONARY_V31: dict[str, Example] = {
    "a call": ('So: <function=get_weather>{"city": "Paris"}</function>', [Content("So: "), *WEATHER]),
    "two": ('<function=get_weather>{"city": "Paris"}</function><function=now>{}</function>', [*WEATHER, *NOW]),
    "cut in the name": ("<function=get_wea", []),
    "no call": ("<function= x", [Content("<function= x")]),
}

EXAMPLES = {
    "qwen3_coder": QWEN3_CODER,
    "llama3_json": LLAMA3_JSON,
    "llama3_pythonic": PYTHONIC,
    "mistral": MISTRAL,
    "mistral_v11": MISTRAL,
    "deepseek_v3": DEEPSEEK_V3,
    "deepseek_v31": DEEPSEEK_V31,
    "harmony": HARMONY,
    "gemma": GEMMA,
    "function_gemma": FUNCTION_GEMMA,
    "gemma4": GEMMA4,
    "functionary": FUNCTIONARY,
    "functionary_v31": FUNCTIONARY_V31,
}
CASES = [(name, case) for name, examples in EXAMPLES.items() for case in examples]


@pytest.mark.parametrize(("name", "case"), CASES)
def test_an_answer_reads_the_same_wherever_it_is_cut_with_marks_as_tokens_and_as_letters(name: str, case: str) -> None:
    form = next(one for one in FORMATS if one.name == name)
    text, parts = EXAMPLES[name][case]
    assert readings(form, text, TOOLS) == [parts]


def test_a_number_that_is_too_long_for_the_library_is_a_string() -> None:
    long = "0x" + "f" * 5000
    parser = next(one for one in FORMATS if one.name == "llama3_pythonic").parser((), {})
    assert read(parser, [f"[f(a={long})]"]) == call("f", f'{{"a": "{long}"}}')
