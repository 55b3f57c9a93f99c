"""Every message is in the prompt, in the form that the template reads, or the request is refused with its place."""

from pathlib import Path
from typing import Any

import pytest

from deltaserve.errors import BadRequest
from deltaserve.offset_models.tokenizer import message_forms
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.vocabularies import byte_level

EACH, NEXT = "{% for m in messages %}", "{% endfor %}"
TEXT = EACH + "[{{ m['role'] }}]{{ m['content'] }}/" + NEXT
PARTS = EACH + "[{{ m['role'] }}]{% for p in m['content'] %}{{ p['text'] | trim }};{% endfor %}/" + NEXT
EITHER = (
    EACH + "[{{ m['role'] }}]{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for p in m['content'] %}{{ p['text'] }};{% endfor %}{% endif %}/" + NEXT
)
FIRST_PART = EACH + "{{ m['content'] if m['content'] is string else m['content'][0]['text'] }}/" + NEXT
BRANCHES = (
    EACH + "{% if m['role'] == 'user' %}U:{{ m['content'] | trim }}/"
    "{% elif m['role'] == 'assistant' %}A:{% if m['tool_calls'] %}{% for c in m['tool_calls'] %}"
    "{{ c['function']['name'] }}({{ c['function']['arguments'] | tojson }}){% endfor %}"
    "{% else %}{{ m['content'].split('</think>')[-1] | trim }}{% endif %}/{% endif %}" + NEXT
)
SYSTEM_FIRST = (
    "{% if messages[0]['role'] == 'system' %}S:{{ messages[0]['content'][0]['text'] }}/{% endif %}"
    + EACH
    + "{% if m['role'] != 'system' %}{{ m['role'] }}:{{ m['content'] + '' }}/{% endif %}"
    + NEXT
)
CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def rendered(folder: Path, template: str, *messages: dict[str, Any], **more: Any) -> str:
    tokenizer = Tokenizer.load(byte_level(folder, config={"chat_template": template}))
    return tokenizer.render_chat(messages, add_generation_prompt=False, **more)


def said(role: str, *texts: str, parts: bool = False) -> dict[str, Any]:
    content = [{"type": "text", "text": text} for text in texts] if parts else "".join(texts)
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("template", "parts", "expected"),
    [
        pytest.param(TEXT, False, "[user]ab/", id="a string to a template of strings"),
        pytest.param(TEXT, True, "[user]ab/", id="parts to a template of strings"),
        pytest.param(PARTS, False, "[user]ab;/", id="a string to a template of parts"),
        pytest.param(PARTS, True, "[user]a;b;/", id="parts to a template of parts"),
        pytest.param(EITHER, False, "[user]ab/", id="a string to a template of either"),
        pytest.param(EITHER, True, "[user]a;b;/", id="parts to a template of either"),
        pytest.param(FIRST_PART, True, "ab/", id="parts to a template that reads one of them"),
    ],
)
def test_a_content_reaches_the_template_in_a_form_that_it_reads(
    tmp_path: Path, template: str, parts: bool, expected: str
) -> None:
    assert rendered(tmp_path, template, said("user", "a", "b", parts=parts)) == expected


@pytest.mark.parametrize("parts", [False, True])
def test_messages_of_one_chat_may_need_different_forms(tmp_path: Path, parts: bool) -> None:
    chat = [said("system", "be", " kind", parts=parts), said("user", "a", "b", parts=parts)]
    assert rendered(tmp_path, SYSTEM_FIRST, *chat) == "S:be kind/user:ab/"


@pytest.mark.parametrize("role", ["system", "developer", "tool"])
@pytest.mark.parametrize("parts", [False, True])
def test_a_message_that_the_template_leaves_out_is_refused_by_place_and_role(
    tmp_path: Path, role: str, parts: bool
) -> None:
    chat = [said("user", "same"), said(role, "same", parts=parts), said("user", "same")]
    with pytest.raises(BadRequest, match=rf"messages\[1\].*'{role}'") as caught:
        rendered(tmp_path, BRANCHES, *chat)
    assert caught.value.param == "messages"
    assert "same" not in caught.value.message


def test_a_message_is_missed_even_where_its_text_stands_elsewhere(tmp_path: Path) -> None:
    only_last = "<b>user</b>{{ messages[-1]['content'] }}"
    for text in ("user", "b", "again"):
        with pytest.raises(BadRequest, match=r"messages\[0\]"):
            rendered(tmp_path, only_last, said("user", text), said("user", "again"))


@pytest.mark.parametrize("template", [PARTS, BRANCHES, "{{ messages | tojson }}", EACH + "{{ m | tojson }}" + NEXT])
@pytest.mark.parametrize("text", [" trimmed \n", 'a "quoted" \\ line\nand <b>', "é 東京 🙂", "MiXed"])
def test_trimmed_and_escaped_texts_are_there(tmp_path: Path, template: str, text: str) -> None:
    assert rendered(tmp_path, template, said("user", text), said("user", text, "x", parts=True))


@pytest.mark.parametrize("blank", ["", " \n"])
def test_an_empty_message_has_nothing_to_lose(tmp_path: Path, blank: str) -> None:
    chat = [said("system", blank), said("user", "a"), said("system", blank, "", parts=True)]
    assert rendered(tmp_path, BRANCHES, *chat) == "U:a/"


def test_reasoning_that_the_template_cuts_by_design_is_no_fault(tmp_path: Path) -> None:
    chat = [said("user", "a"), said("assistant", "<think>why\n</think>\n\nbecause"), said("user", "b")]
    assert rendered(tmp_path, BRANCHES, *chat) == "U:a/A:because/U:b/"


def test_a_text_that_the_template_drops_for_what_it_says_is_refused(tmp_path: Path) -> None:
    choosy = EACH + "{% if 'secret' not in m['content'] %}{{ m['content'] }}{% endif %}" + NEXT
    assert rendered(tmp_path, choosy, said("user", "open")) == "open"
    tokenizer = Tokenizer.load(byte_level(tmp_path, config={"chat_template": choosy}))
    tokenizer.render_chat([said("user", "open")])  # the shape is known from here on
    with pytest.raises(BadRequest, match=r"messages\[0\]"):
        tokenizer.render_chat([said("user", "a secret")])


def test_tool_calls_are_messages_too(tmp_path: Path) -> None:
    calls = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    assert "look(" in rendered(tmp_path, BRANCHES, said("user", "a"), calls)
    silent = EACH + "{{ m['content'] or '' }}/" + NEXT
    with pytest.raises(BadRequest, match=r"messages\[1\].*'assistant'"):
        rendered(tmp_path, silent, said("user", "a"), calls)
    with pytest.raises(BadRequest, match=r"messages\[1\].*'assistant'"):
        rendered(tmp_path, BRANCHES, said("user", "a"), calls | {"content": "words beside the call"})


def test_tools_without_a_place_in_the_template_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="no place for `tools`") as caught:
        rendered(tmp_path, TEXT, said("user", "a"), tools=[CALL])
    assert caught.value.param == "tools"


def test_a_name_that_the_template_does_not_show_is_no_text(tmp_path: Path) -> None:
    assert rendered(tmp_path, TEXT, said("user", "a") | {"name": "Ada"}) == "[user]a/"


@pytest.mark.parametrize(("template", "end"), [(TEXT, "We "), (PARTS, "We"), (EITHER, "We ")])
@pytest.mark.parametrize("parts", [False, True])
def test_a_final_message_is_continued_in_either_form(tmp_path: Path, template: str, end: str, parts: bool) -> None:
    chat = [said("user", "a"), said("assistant", "We ", parts=parts)]
    text = rendered(tmp_path, template, *chat, continue_final_message=True)
    assert text.endswith(f"[assistant]{end}")


def test_what_the_template_itself_says_of_a_role_comes_first(tmp_path: Path) -> None:
    strict = EACH + "{% if m['role'] == 'system' %}{{ raise_exception('No system here.') }}{% endif %}" + TEXT
    with pytest.raises(BadRequest, match="No system here"):
        rendered(tmp_path, strict + NEXT, said("system", "x", parts=True), said("user", "a"))


def test_conversations_of_one_shape_are_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.utils import chat_template_utils as rendering

    tokenizer = Tokenizer.load(byte_level(tmp_path, config={"chat_template": TEXT}))
    count, render = [0], rendering.render_jinja_template

    def counted(**about: Any) -> Any:
        count[0] += 1
        return render(**about)

    monkeypatch.setattr(rendering, "render_jinja_template", counted)
    for text in ("a", "b", "c"):
        tokenizer.render_chat([said("user", text)])
    assert count[0] == 4
    tokenizer.render_chat([said("system", "a"), said("user", "a")])
    assert count[0] == 6


def test_a_long_chat_whose_texts_are_escaped_is_looked_through_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_for: list[int] = []
    marks = message_forms._marks

    def counted(message: dict[str, Any], at: int) -> list[str]:
        looked_for.append(at)
        return marks(message, at)

    monkeypatch.setattr(message_forms, "_marks", counted)
    chat = [said("user", f'"{number}"') for number in range(200)]
    text = rendered(tmp_path, EACH + "{{ m['content'] | tojson }}/" + NEXT, *chat)
    assert text.count('\\"') == 400
    assert len(looked_for) <= 4 * len(chat)


def test_messages_may_stand_in_another_order_and_far_from_each_other(tmp_path: Path) -> None:
    last_first = "{% for m in messages | reverse %}{{ m['content'] }}/" + NEXT
    chat = [said("user", "one " * 70_000), said("assistant", "two"), said("user", "three " * 50_000)]
    assert rendered(tmp_path, last_first, *chat).endswith("one /")
