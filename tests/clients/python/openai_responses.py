"""openai-python: /v1/responses."""

import json
from typing import Literal

import openai
from checks import DEMO, QUESTION, SPEAKING, Client, raised
from openai import OpenAI
from pydantic import BaseModel

library = Client("openai-python", "openai")
client = OpenAI(base_url=DEMO.v1, api_key=DEMO.key)
speaking = OpenAI(base_url=SPEAKING.v1, api_key=SPEAKING.key)
GREEDY = {"model": DEMO.model, "input": QUESTION, "temperature": 0, "max_output_tokens": 48, "store": False}
SPOKEN = {"model": SPEAKING.model, "temperature": 0, "max_output_tokens": 1000, "store": False}
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Oslo", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
WHOLE = client.responses.create(**GREEDY)


class Entry(BaseModel):
    kind: Literal["person", "place", "book"]
    sure: bool


@library.check("responses.create")
def whole():
    assert WHOLE.output_text and WHOLE.status == "completed"
    assert WHOLE.usage.total_tokens == WHOLE.usage.input_tokens + WHOLE.usage.output_tokens
    chat = client.chat.completions.create(
        model=DEMO.model, messages=[{"role": "user", "content": QUESTION}], temperature=0, max_tokens=48
    )
    assert chat.choices[0].message.content == WHOLE.output_text
    return f"{WHOLE.output_text!r}, the chat route's own text"


@library.check("responses.create", "stream")
def streamed():
    events = list(client.responses.create(**GREEDY, stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == WHOLE.output_text and events[0].type == "response.created"
    assert events[-1].type == "response.completed" and events[-1].response.output_text == text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    return f"{len({event.type for event in events})} kinds of events, numbered; pieces join to the whole"


@library.check("responses.stream")
def helper():
    with client.responses.stream(**{k: v for k, v in GREEDY.items() if k != "store"}, store=False) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert final.output_text == text == WHOLE.output_text
    return "output_text.delta events join to the final response"


@library.check("responses.create", "instructions, a list of messages")
def conversation():
    messages = [
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": WHOLE.output_text},
        {"role": "user", "content": QUESTION},
    ]
    answer = client.responses.create(**{**GREEDY, "input": messages}, instructions="Answer shortly.")
    assert answer.output_text
    return f"{answer.output_text!r}"


@library.check("responses.parse", "a pydantic model")
def parsed():
    entry = client.responses.parse(**{**GREEDY, "max_output_tokens": 256}, text_format=Entry).output_parsed
    assert isinstance(entry, Entry)
    return f"Entry({entry})"


@library.check("responses.create", "tools; the result is sent back")
def tools():
    asked = {**SPOKEN, "tools": [WEATHER]}
    question = {"role": "user", "content": "What is the weather?"}
    first = speaking.responses.create(**asked, input=[question])
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Oslo"})
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees"}
    second = speaking.responses.create(**asked, input=[question, call.to_dict(), result])
    assert second.output_text == "It is 21 degrees there."
    return f"function_call weather, then {second.output_text!r}"


@library.check("responses.create", "tools, stream")
def streamed_tools():
    events = list(speaking.responses.create(**SPOKEN, tools=[WEATHER], input="What is the weather?", stream=True))
    pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    (done,) = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert "".join(pieces) == done.arguments and json.loads(done.arguments) == {"city": "Oslo"}
    return "function_call_arguments.delta events join to the done one"


@library.check("responses.create", 'tool_choice "required" where the model would not call')
def forced():
    answer = speaking.responses.create(**SPOKEN, tools=[WEATHER], tool_choice="required", input="Who are you?")
    call = next(item for item in answer.output if item.type == "function_call")
    assert json.loads(call.arguments)["city"] in ("Oslo", "Rome")
    return "a call that fits its schema"


@library.check("responses.create", "an answer with a thought")
def reasoning():
    answer = speaking.responses.create(**SPOKEN, input="Please think.")
    assert answer.output[0].type == "reasoning" and answer.output_text.strip() == "It is four."
    assert answer.usage.output_tokens_details.reasoning_tokens > 0
    return "a reasoning item, then the message; reasoning_tokens in usage"


@library.check("responses.create", "max_output_tokens=16, the stand-in")
def cut():
    answer = speaking.responses.create(**{**SPOKEN, "max_output_tokens": 16}, input="Please think.")
    assert answer.status == "incomplete" and answer.incomplete_details.reason == "max_output_tokens"
    return "status incomplete, max_output_tokens"


@library.check("errors", "previous_response_id; a wrong key; a model that is not there")
def refused():
    def ask(server=client, **changes):
        return lambda: server.responses.create(**{**GREEDY, **changes})

    stateless = raised(openai.BadRequestError, ask(previous_response_id="resp_1"))
    assert "previous_response_id" in stateless.message
    raised(openai.AuthenticationError, ask(OpenAI(base_url=DEMO.v1, api_key="wrong")))
    raised(openai.NotFoundError, ask(model="gpt-9"))
    return f"BadRequestError: {stateless.message}; AuthenticationError; NotFoundError"


library.end()
