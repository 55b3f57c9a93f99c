"""openai-python: tools and reasoning."""

import json
from typing import Literal

import openai
from checks import SPEAKING, Client, asking
from openai import OpenAI
from pydantic import BaseModel

library = Client("openai-python", "openai")
client = OpenAI(base_url=SPEAKING.v1, api_key=SPEAKING.key)


class weather(BaseModel):
    """The weather in a city."""

    city: Literal["Oslo", "Rome"]


class colour(BaseModel):
    """A colour."""

    name: Literal["red", "green"]


TOOLS = [openai.pydantic_function_tool(weather), openai.pydantic_function_tool(colour)]


def body(text, **more):
    return {
        "model": SPEAKING.model,
        "messages": asking(text),
        "temperature": 0,
        "max_tokens": 200,
        "tools": TOOLS,
        **more,
    }


def called(choice):
    return [(call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls or []]


OSLO, ROME = ("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})
WHOLE = client.chat.completions.create(**body("What is the weather?")).choices[0]


@library.check("chat.completions.create", 'tools, tool_choice "auto"')
def whole():
    assert called(WHOLE) == [OSLO] and WHOLE.finish_reason == "tool_calls" and not WHOLE.message.content
    assert WHOLE.message.tool_calls[0].id and WHOLE.message.tool_calls[0].type == "function"
    return "weather(city='Oslo'), finish_reason tool_calls"


@library.check("chat.completions.create", "tools, stream")
def streamed():
    deltas, finish = [], None
    for chunk in client.chat.completions.create(**body("What is the weather?"), stream=True):
        if chunk.choices:
            deltas += chunk.choices[0].delta.tool_calls or []
            assert not chunk.choices[0].delta.content
            finish = chunk.choices[0].finish_reason or finish
    first, rest = deltas[0], deltas[1:]
    assert first.function.name == "weather" and first.id and all(delta.function.name is None for delta in rest)
    assert "".join(delta.function.arguments or "" for delta in deltas) == WHOLE.message.tool_calls[0].function.arguments
    assert finish == "tool_calls" and rest
    return "the name first, then pieces that join to the same arguments"


@library.check("chat.completions.stream", "tools by pydantic_function_tool")
def helper():
    with client.chat.completions.stream(**body("What is the weather?")) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert [event.parsed_arguments for event in done] == [weather(city="Oslo")] == [final.function.parsed_arguments]
    return "arguments.done with parsed_arguments"


@library.check("chat.completions.parse", "tools by pydantic_function_tool")
def parsed():
    (call,) = client.chat.completions.parse(**body("What is the weather?")).choices[0].message.tool_calls
    assert call.function.parsed_arguments == weather(city="Oslo")
    return f"weather({call.function.parsed_arguments})"


@library.check("chat.completions.create", "the tool's result is sent back")
def second_turn():
    call = WHOLE.message
    result = {"role": "tool", "tool_call_id": call.tool_calls[0].id, "content": "21 degrees"}
    messages = [*asking("What is the weather?"), call.to_dict(), result]
    (choice,) = client.chat.completions.create(**{**body(""), "messages": messages}).choices
    assert choice.message.content == "It is 21 degrees there." and choice.finish_reason == "stop"
    return f"{choice.message.content!r}, finish_reason stop"


@library.check("chat.completions.create", "two calls; parallel_tool_calls=False")
def parallel():
    both = client.chat.completions.create(**body("The weather of both cities?")).choices[0]
    assert called(both) == [OSLO, ROME] and both.message.tool_calls[0].id != both.message.tool_calls[1].id
    one = client.chat.completions.create(**body("The weather of both cities?", parallel_tool_calls=False)).choices[0]
    assert len(called(one)) == 1
    return "two calls with ids of their own; one"


@library.check("chat.completions.create", 'a text although there are tools; tool_choice "none"')
def no_call():
    text = client.chat.completions.create(**body("Who are you?")).choices[0]
    assert text.message.content and text.message.tool_calls is None and text.finish_reason == "stop"
    none = client.chat.completions.create(**body("What is the weather?", tool_choice="none")).choices[0]
    assert none.message.tool_calls is None and none.finish_reason == "stop"
    return "content, no tool_calls, finish_reason stop"


@library.check("chat.completions.create", 'tool_choice "required", and a named tool, where the model would not call')
def forced():
    required = client.chat.completions.create(**body("Who are you?", tool_choice="required", max_tokens=1000)).choices[
        0
    ]
    ((name, arguments),) = called(required)[:1]
    {"weather": weather, "colour": colour}[name](**arguments)
    named = {"type": "function", "function": {"name": "colour"}}
    choice = client.chat.completions.create(**body("Who are you?", tool_choice=named, max_tokens=1000)).choices[0]
    ((name, arguments),) = called(choice)
    assert name == "colour" and colour(**arguments) and choice.finish_reason in ("tool_calls", "stop")
    return "a call that fits its schema; of the named tool"


@library.check("chat.completions.create", "tools, max_tokens=12")
def cut():
    choice = client.chat.completions.create(**body("What is the weather?", max_tokens=12)).choices[0]
    assert choice.finish_reason == "length"
    return "finish_reason length, nothing invented"


@library.check("chat.completions.create", "an answer with a thought, whole and streamed")
def reasoning():
    thinking = {key: value for key, value in body("Please think.").items() if key != "tools"}
    answer = client.chat.completions.create(**thinking)
    message = answer.choices[0].message
    assert message.content.strip() == "It is four." and "fingers" in message.reasoning_content
    assert answer.usage.completion_tokens_details.reasoning_tokens > 0
    thought, text = "", ""
    for chunk in client.chat.completions.create(**thinking, stream=True):
        delta = chunk.choices[0].delta
        thought += getattr(delta, "reasoning_content", None) or ""
        text += delta.content or ""
    assert (thought, text) == (message.reasoning_content, message.content)
    return "reasoning_content beside content, reasoning_tokens in usage; the same streamed"


@library.check("chat.completions.create", "chat_template_kwargs.enable_thinking=False")
def no_thought():
    thinking = {key: value for key, value in body("Please think.").items() if key != "tools"}
    off = {"chat_template_kwargs": {"enable_thinking": False}}
    message = client.chat.completions.create(**thinking, extra_body=off).choices[0].message
    assert message.content.strip() == "It is four." and not getattr(message, "reasoning_content", None)
    return "content alone"


library.end()
