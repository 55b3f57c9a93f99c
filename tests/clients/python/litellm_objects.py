"""litellm's client: objects, tools, reasoning, and the two other routes."""

import json
import os
from typing import Literal

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the network at import

import litellm
from checks import CHAT, DEMO, SPEAKING, Client, asking
from pydantic import BaseModel

litellm.suppress_debug_info = True
library = Client("litellm", "litellm")
demo = {"model": f"openai/{DEMO.model}", "api_base": DEMO.v1, "api_key": DEMO.key, "temperature": 0, "max_tokens": 96}
spoken = {"model": f"openai/{SPEAKING.model}", "api_base": SPEAKING.v1, "api_key": SPEAKING.key, "temperature": 0}
CITY = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": CITY}}]


class Entry(BaseModel):
    kind: Literal["person", "place", "book"]
    sure: bool


@library.check("completion", "response_format: a pydantic model")
def parsed():
    text = litellm.completion(**demo, messages=CHAT, response_format=Entry).choices[0].message.content
    return f"Entry({Entry.model_validate_json(text)})"


@library.check("completion", "tools; the same streamed")
def tools():
    body = {**spoken, "tools": TOOLS, "messages": asking("What is the weather?")}
    (choice,) = litellm.completion(**body).choices
    chunks = list(litellm.completion(**body, stream=True))
    built = litellm.stream_chunk_builder(chunks).choices[0]
    for one in (choice, built):
        (call,) = one.message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Oslo"})
        assert one.finish_reason == "tool_calls"
    return "weather(city='Oslo'), finish_reason tool_calls, both ways"


@library.check("completion", "an answer with a thought")
def reasoning():
    message = litellm.completion(**spoken, messages=asking("Please think.")).choices[0].message
    assert message.content.strip() == "It is four." and "fingers" in message.reasoning_content
    return "reasoning_content beside content"


@library.check("responses", "store=False")
def responses():
    body = {**demo, "max_output_tokens": 48, "store": False, "input": CHAT}
    del body["max_tokens"]
    answer = litellm.responses(**body)
    text = answer.output[-1].content[0].text
    assert text and answer.status == "completed"
    return f"{text!r}, status completed"


@library.check("anthropic.messages.create", "anthropic/…, max_tokens")
async def messages():
    body = {**demo, "model": f"anthropic/{DEMO.model}", "api_base": DEMO.url, "messages": CHAT}
    answer = await litellm.anthropic.messages.acreate(**body)
    assert answer["content"][0]["text"] and answer["stop_reason"] == "end_turn"
    return f"{answer['content'][0]['text']!r}, stop_reason end_turn"


library.end()
