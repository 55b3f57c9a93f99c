"""Which format a chat template asks for. Each line is what its family's template shows the model."""

import pytest

from deltaserve.errors import NotConfigured
from deltaserve.server.answers.tools.choosing import FORMATS, format_of

TEMPLATES = {
    "hermes": 'an object within <tool_call></tool_call> XML tags:\\n<tool_call>\\n{\\"name\\": <function-name>',
    "qwen3_coder": "<tool_call>\\n<function=example_function_name>\\n<parameter=example_parameter_1>\\nvalue_1",
    "llama3_json": '{{- "<|start_header_id|>" }} Respond in {"name": function name, "parameters": dictionary}',
    "llama3_pythonic": "<|start_header_id|> [func_name1(params_name1=params_value1, params_name2=params_value2...)]",
    "mistral": '{{- "[TOOL_CALLS] [" }} {%- if not tool_call.id is defined or tool_call.id|length != 9 %}',
    "mistral_v11": "{{- '[TOOL_CALLS]' + name + '[ARGS]' + arguments }}",
    "deepseek_v3": "'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + '\\n```json\\n'",
    "deepseek_v31": "'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>'+ tool['function']['name'] + '<｜tool▁sep｜>'",
    "harmony": '{{- "<|start|>assistant<|channel|>analysis<|message|>" + message.thinking + "<|end|>" }}',
    "gemma": "put each call in a block:\\n```tool_code\\nname(key=value)\\n```",
    "function_gemma": "'<start_function_call>call:' + function['name'] + '{'",
    "gemma4": "'<|tool_call>call:' + function['name'] + '{' + '<|\"|>'",
    "functionary": "Respond in this format:\\n>>>${recipient}\\n${content} <|start_header_id|>",
    "functionary_v31": '<function=example_function_name>{"example_name": "example_value"}</function>',
}
OTHERS = {
    "no tools": "{{ '<|im_start|>' + message['role'] + message['content'] }}",
    "GLM's": "<tool_call>{function-name}\\n<arg_key>{arg-key-1}</arg_key>",
    "nothing": "",
}


@pytest.mark.parametrize("name", [form.name for form in FORMATS])
def test_a_template_shows_its_format(name: str) -> None:
    form = format_of(TEMPLATES[name])
    assert form is not None and form.name == name


@pytest.mark.parametrize("template", OTHERS)
def test_a_template_without_a_known_format_has_none(template: str) -> None:
    assert format_of(OTHERS[template]) is None


def test_a_setting_names_another_format_or_none() -> None:
    named = format_of(TEMPLATES["hermes"], "llama3_json")
    assert named is not None and named.name == "llama3_json"
    assert format_of(TEMPLATES["hermes"], "off") is None
    with pytest.raises(NotConfigured, match="hermes"):
        format_of("", "hermse")


def test_ids_have_the_length_that_the_family_s_template_takes() -> None:
    mistral = next(form for form in FORMATS if form.name == "mistral")
    (begun, *_) = mistral.parser((), {}).push('[TOOL_CALLS][{"name": "f", "arguments": {}}]')
    assert len(getattr(begun, "id", "")) == 9 and getattr(begun, "id", "").isalnum()
