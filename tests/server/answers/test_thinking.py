"""Reasoning is told from the answer, however the text is cut into segments."""

from collections.abc import Iterator

import pytest

from deltaserve.errors import NotConfigured
from deltaserve.server.answers.choice_reader import merged
from deltaserve.server.answers.parts import Content, Part, Reasoning, Segment, Special
from deltaserve.server.answers.thinking import FORMATS, Start, ThinkingParser, start_behind, thinking_of

THINK = thinking_of("</think>")
assert THINK is not None
IDS = {"<think>": 7, "</think>": 8}

# (where it begins, what comes, the reasoning, the content)
ANSWERS = [
    (Start.FREE, "<think>\nso\n so\n</think>\n\nyes\n", "so\n so", "yes\n"),
    (Start.FREE, " \n<think>so</think>yes", "so", "yes"),
    (Start.FREE, "yes <think>so</think>", "", "yes <think>so</think>"),
    (Start.FREE, "  yes", "", "  yes"),
    (Start.FREE, "", "", ""),
    (Start.FREE, " \n", "", " \n"),
    (Start.FREE, "<think></think>yes", "", "yes"),
    (Start.FREE, "<think>\n\n</think>\n\n", "", ""),
    (Start.FREE, "<think>so far", "so far", ""),
    (Start.FREE, "<think>so", "so", ""),
    (Start.THINKING, "so\n</think>\n\nyes", "so", "yes"),
    (Start.THINKING, "so <b></b> \n", "so <b></b>", ""),
    (Start.THINKING, "</think>yes </think> no", "", "yes </think> no"),
    (Start.ANSWER, "<think>yes</think>", "", "<think>yes</think>"),
]


def spoken(parts: list[Part]) -> tuple[str, str]:
    thought = "".join(part.text for part in parts if isinstance(part, Reasoning))
    return thought, "".join(part.text for part in parts if isinstance(part, Content))


def segmented(text: str, *, tokens: bool, length: int) -> Iterator[Segment]:
    """The text in pieces of so many characters; with `tokens` each mark is one of its own."""
    if tokens:
        for mark, token_id in IDS.items():
            before, found, behind = text.partition(mark)
            if found:
                yield from segmented(before, tokens=True, length=length)
                yield Special(token_id, mark)
                yield from segmented(behind, tokens=True, length=length)
                return
    yield from (text[at : at + length] for at in range(0, len(text), length))


def read(parser: ThinkingParser, segments: Iterator[Segment]) -> list[Part]:
    return merged([*(part for segment in segments for part in parser.push(segment)), *parser.finish()])


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize(("start", "text", "thought", "content"), ANSWERS)
def test_reasoning_and_content_are_told_apart(
    start: Start, text: str, thought: str, content: str, tokens: bool
) -> None:
    for length in (1, 2, 3, 5, 100):
        parser = ThinkingParser(THINK, start, IDS if tokens else {})
        assert spoken(read(parser, segmented(text, tokens=tokens, length=length))) == (thought, content)


@pytest.mark.parametrize("thinking", FORMATS, ids=lambda one: one.name)
def test_every_format_is_read_letter_by_letter(thinking: object) -> None:
    parser = ThinkingParser(thinking, Start.FREE, {})
    text = f"{thinking.begin}{thinking.head} so {thinking.end} yes"
    assert spoken(read(parser, iter(text))) == ("so", "yes")


def test_where_a_mark_is_a_token_its_letters_are_text() -> None:
    parser = ThinkingParser(THINK, Start.THINKING, IDS)
    segments = ["I write ", "</think>", " now", Special(8, "</think>"), "yes"]
    assert spoken(read(parser, iter(segments))) == ("I write </think> now", "yes")


def test_what_heads_the_reasoning_is_no_part_of_it() -> None:
    gemma = thinking_of("<channel|>")
    ids = {"<|channel>": 7, "<channel|>": 8}
    begin, end = Special(7, "<|channel>"), Special(8, "<channel|>")
    for head in (["thought\n"], ["th", "ought", "\n"], []):
        parser = ThinkingParser(gemma, Start.FREE, ids)
        assert spoken(read(parser, iter([begin, *head, "so", end, "yes"]))) == ("so", "yes")
    parser = ThinkingParser(gemma, Start.FREE, ids)
    assert spoken(read(parser, iter([begin, "thou", end, "yes"]))) == ("thou", "yes")


def test_a_model_may_begin_what_the_prompt_has_begun() -> None:
    parser = ThinkingParser(THINK, Start.THINKING, IDS)
    segments = [Special(7, "<think>"), "\nso", Special(8, "</think>"), "yes"]
    assert spoken(read(parser, iter(segments))) == ("so", "yes")


def test_reasoning_is_given_as_it_comes() -> None:
    parser = ThinkingParser(THINK, Start.THINKING, {})
    assert parser.push("I think ") == [Reasoning("I think")]
    assert parser.push("so. </th") == [Reasoning(" so.")]
    assert parser.push("is") == [Reasoning(" </this")]


def test_other_tokens_within_reasoning_are_text_of_it() -> None:
    parser = ThinkingParser(THINK, Start.THINKING, IDS)
    segments = ["a", Special(9, "<tool_call>"), "b", Special(8, "</think>"), "yes"]
    assert spoken(read(parser, iter(segments))) == ("a<tool_call>b", "yes")


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{{ content.split('</think>')[-1] }}", "think"),
        ("[SYSTEM_PROMPT][THINK]…[/THINK]", "mistral"),
        ("Here is my thought process: … Here is my response:", "granite"),
        ("<|START_THINKING|><|END_THINKING|>", "cohere"),
        ("{{ messages }}", None),
    ],
)
def test_the_template_shows_the_format(template: str, name: str | None) -> None:
    found = thinking_of(template)
    assert (found and found.name) == name
    assert thinking_of(template, "off") is None
    assert thinking_of(template, "seed").name == "seed"


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(NotConfigured, match="reasoning_format must be auto, off"):
        thinking_of("", "loud")


@pytest.mark.parametrize(
    ("prompt", "continued", "start"),
    [
        ("user: <think>? assistant:", None, Start.FREE),
        ("user: hi assistant:<think>\n", None, Start.THINKING),
        ("user: hi assistant:<think>\n\n</think>\n\n", None, Start.ANSWER),
        ("user: hi assistant:</think>", None, Start.ANSWER),
        ("…", "<think>I", Start.THINKING),
        ("…", "<think>I</think> see", Start.ANSWER),
        ("…<think>", "We", Start.ANSWER),
    ],
)
def test_the_prompt_says_where_an_answer_begins(prompt: str, continued: str | None, start: Start) -> None:
    assert start_behind(prompt, THINK, continued) is start
