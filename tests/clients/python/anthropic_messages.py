"""anthropic-python: /v1/messages."""

from typing import Literal

import anthropic
from anthropic import Anthropic
from checks import CHAT, DEMO, SPEAKING, Client, asking, raised
from pydantic import BaseModel

library = Client("anthropic-python", "anthropic")
client = Anthropic(base_url=DEMO.url, api_key=DEMO.key)
speaking = Anthropic(base_url=SPEAKING.url, api_key=SPEAKING.key, max_retries=5)
COLD = {"temperature": 0}  # this release has no such argument
GREEDY = {"model": DEMO.model, "messages": CHAT, "max_tokens": 48, "extra_body": COLD}
SPOKEN = {"model": SPEAKING.model, "max_tokens": 1000, "extra_body": COLD}
CITY = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}
WEATHER = {"name": "weather", "description": "The weather in a city.", "input_schema": CITY}
WHOLE = client.messages.create(**GREEDY)
TEXT = WHOLE.content[0].text


class Entry(BaseModel):
    kind: Literal["person", "place", "book"]
    sure: bool


@library.check("messages.create")
def whole():
    assert TEXT and WHOLE.stop_reason == "end_turn" and WHOLE.role == "assistant"
    assert WHOLE.usage.input_tokens > 0 and WHOLE.usage.output_tokens > 0
    return f"{TEXT!r}, stop_reason end_turn, usage"


@library.check("messages.create", "stream")
def streamed():
    events = list(client.messages.create(**GREEDY, stream=True))
    text = "".join(event.delta.text for event in events if event.type == "content_block_delta")
    kinds = [event.type for event in events if event.type != "content_block_delta"]
    assert text == TEXT and events[-2].delta.stop_reason == "end_turn"
    assert [kind for kind in kinds if kind != "ping"] == [
        "message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    return "Anthropic's events in their order, pieces join to the whole"


@library.check("messages.stream")
def helper():
    with client.messages.stream(**GREEDY) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == TEXT == final.content[0].text and final.usage.output_tokens == WHOLE.usage.output_tokens
    return "text_stream joins to the final message, with the same usage"


@library.check("messages.count_tokens")
def count():
    counted = client.messages.count_tokens(model=DEMO.model, messages=CHAT).input_tokens
    assert counted == WHOLE.usage.input_tokens
    return "the input_tokens of the answer's usage"


@library.check("messages.create", "system; stop_sequences; max_tokens=3")
def options():
    assert client.messages.create(**GREEDY, system="Answer shortly.").content[0].text
    word = TEXT.split()[2]
    stopped = client.messages.create(**GREEDY, stop_sequences=[word])
    assert stopped.stop_reason == "stop_sequence" and stopped.stop_sequence == word
    assert stopped.content[0].text == TEXT.partition(word)[0]
    assert client.messages.create(**{**GREEDY, "max_tokens": 3}).stop_reason == "max_tokens"
    return "stop_reason stop_sequence with the string; max_tokens"


@library.check("messages.parse", "a pydantic model")
def parsed():
    entry = client.messages.parse(**{**GREEDY, "max_tokens": 256}, output_format=Entry).parsed_output
    assert isinstance(entry, Entry)
    return f"Entry({entry})"


@library.check("messages.create", "tools; the result is sent back")
def tools():
    question = asking("What is the weather?")
    first = speaking.messages.create(**SPOKEN, tools=[WEATHER], messages=question)
    (use,) = [block for block in first.content if block.type == "tool_use"]
    assert (use.name, use.input, first.stop_reason) == ("weather", {"city": "Oslo"}, "tool_use")
    result = [{"type": "tool_result", "tool_use_id": use.id, "content": "21 degrees"}]
    messages = [*question, {"role": "assistant", "content": first.content}, {"role": "user", "content": result}]
    second = speaking.messages.create(**SPOKEN, tools=[WEATHER], messages=messages)
    assert second.content[0].text == "It is 21 degrees there."
    return f"tool_use weather, then {second.content[0].text!r}"


@library.check("messages.stream", "tools")
def streamed_tools():
    with speaking.messages.stream(**SPOKEN, tools=[WEATHER], messages=asking("What is the weather?")) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        (use,) = [block for block in stream.get_final_message().content if block.type == "tool_use"]
    assert pieces and use.input == {"city": "Oslo"}
    return "input_json events, the same tool_use"


@library.check("messages.create", 'tool_choice "any" and "tool" where the model would not call')
def forced():
    for choice in ({"type": "any"}, {"type": "tool", "name": "weather"}):
        body = {**SPOKEN, "tools": [WEATHER], "messages": asking("Who are you?"), "tool_choice": choice}
        use = next(block for block in speaking.messages.create(**body).content if block.type == "tool_use")
        assert use.input["city"] in ("Oslo", "Rome")
    return "calls that fit the schema"


@library.check("messages.create", "thinking")
def thinking():
    body = {**SPOKEN, "max_tokens": 2048, "messages": asking("Please think.")}
    answer = speaking.messages.create(**body, thinking={"type": "enabled", "budget_tokens": 1024})
    assert [block.type for block in answer.content] == ["thinking", "text"]
    assert "fingers" in answer.content[0].thinking and answer.content[1].text.strip() == "It is four."
    return "a thinking block, then the text"


@library.check("errors", "a wrong key; a model that is not there; temperature=9; every place taken")
def refused():
    def ask(server=client, **changes):
        return lambda: server.messages.create(**{**GREEDY, **changes})

    raised(anthropic.AuthenticationError, ask(Anthropic(base_url=DEMO.url, api_key="wrong")))
    missing = raised(anthropic.NotFoundError, ask(model="claude-9"))
    assert missing.body["type"] == "error" and missing.body["error"]["type"] == "not_found_error"
    raised(anthropic.BadRequestError, ask(extra_body={"temperature": 9}))
    few, long = speaking.with_options(max_retries=0), {**SPOKEN, "messages": asking("Wait for me.")}
    held = [few.messages.create(**long, stream=True) for _ in range(2)]
    with held[0], held[1]:
        assert all(next(iter(stream)) for stream in held)
        raised(anthropic.RateLimitError, ask(few, model=SPEAKING.model))
    return "AuthenticationError, NotFoundError, BadRequestError, RateLimitError"


library.end()
