"""openai-python: chats and completions, whole and streamed, and the errors that it raises."""

import asyncio

import openai
from checks import CHAT, DEMO, SPEAKING, Client, asking, raised
from openai import AsyncOpenAI, OpenAI

library = Client("openai-python", "openai")
client = OpenAI(base_url=DEMO.v1, api_key=DEMO.key)
GREEDY = {"model": DEMO.model, "messages": CHAT, "temperature": 0, "max_tokens": 48}
WHOLE = client.chat.completions.create(**GREEDY)
TEXT = WHOLE.choices[0].message.content or ""


@library.check("models.list")
def models():
    names = [model.id for model in client.models.list()]
    assert names[0] == DEMO.model == client.models.retrieve(DEMO.model).id
    return f"{len(names)} model, the black box's name"


@library.check("chat.completions.create")
def whole():
    (choice,) = WHOLE.choices
    assert choice.message.role == "assistant" and TEXT and choice.finish_reason == "stop"
    assert WHOLE.usage.total_tokens == WHOLE.usage.prompt_tokens + WHOLE.usage.completion_tokens
    assert WHOLE.model == DEMO.model and WHOLE.system_fingerprint
    return f"{TEXT!r}, finish_reason stop, usage adds up"


@library.check("chat.completions.create", "stream, include_usage")
def streamed():
    chunks = list(client.chat.completions.create(**GREEDY, stream=True, stream_options={"include_usage": True}))
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == TEXT and sum(map(bool, pieces)) > 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == WHOLE.usage.completion_tokens and not chunks[-1].choices
    return "pieces join to the whole, then finish_reason and the same usage"


@library.check("chat.completions.stream")
def helper():
    with client.chat.completions.stream(**GREEDY) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content == TEXT
    return "content.delta events join to the final completion"


@library.check("chat.completions.create", "n=2, seed=7, temperature=1")
def seeded():
    body = {**GREEDY, "temperature": 1, "n": 2, "seed": 7}
    first, again = ([c.message.content for c in client.chat.completions.create(**body).choices] for _ in range(2))
    assert first == again and len(first) == 2
    return "two choices, the same ones again"


@library.check("chat.completions.create", "logprobs, top_logprobs=3")
def logprobs():
    content = client.chat.completions.create(**GREEDY, logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert "".join(entry.token for entry in content[:-1]) in TEXT
    for entry in content:
        listed = [top.logprob for top in entry.top_logprobs]
        assert len(listed) == 3 and listed == sorted(listed, reverse=True) and listed[0] <= 0
        assert abs(entry.logprob - listed[0]) < 1e-6 and entry.token == entry.top_logprobs[0].token
    return f"{len(content)} entries of 3, sorted, the greedy token first"


@library.check("chat.completions.create", "max_completion_tokens=3; stop")
def cut():
    short = client.chat.completions.create(**{**GREEDY, "max_tokens": None, "max_completion_tokens": 3})
    assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 3
    word = TEXT.split()[2]
    stopped = client.chat.completions.create(**GREEDY, stop=[word]).choices[0]
    assert stopped.message.content == TEXT.partition(word)[0] and stopped.finish_reason == "stop"
    return "finish_reason length after 3 tokens; the text before the stop string"


@library.check("completions.create", "two prompts; stream")
def completions():
    body = {"model": DEMO.model, "prompt": ["Once", "The town"], "temperature": 0, "max_tokens": 8}
    texts = {choice.index: choice.text for choice in client.completions.create(**body).choices}
    pieces = {0: "", 1: ""}
    for chunk in client.completions.create(**body, stream=True):
        for choice in chunk.choices:
            pieces[choice.index] += choice.text
    assert pieces == texts and all(texts.values())
    return "two texts, and the same streamed"


@library.check("AsyncOpenAI.chat.completions.create", "four at once")
async def at_once():
    async with AsyncOpenAI(base_url=DEMO.v1, api_key=DEMO.key) as several:
        answers = await asyncio.gather(*(several.chat.completions.create(**GREEDY) for _ in range(4)))
    assert {answer.choices[0].message.content for answer in answers} == {TEXT}
    assert len({answer.id for answer in answers}) == 4
    return "the same text four times, each with an id of its own"


@library.check("chat.completions.with_raw_response.create")
def headers():
    raw = client.chat.completions.with_raw_response.create(**GREEDY, extra_headers={"X-Request-Id": "from-the-client"})
    assert raw.parse()._request_id == "from-the-client"
    return "X-Request-Id as sent"


@library.check("errors", "a wrong key; a model that is not there; temperature=9")
def refused():
    wrong = OpenAI(base_url=DEMO.v1, api_key="wrong")
    stranger = raised(openai.AuthenticationError, lambda: wrong.chat.completions.create(**GREEDY))
    missing = raised(openai.NotFoundError, lambda: client.chat.completions.create(**{**GREEDY, "model": "gpt-9"}))
    hot = raised(openai.BadRequestError, lambda: client.chat.completions.create(**{**GREEDY, "temperature": 9}))
    assert DEMO.model in missing.message and hot.param == "temperature"
    return f"AuthenticationError {stranger.status_code}, NotFoundError, BadRequestError with its param"


@library.check("errors", "embeddings, images, audio")
def not_built():
    calls = {
        "embeddings": lambda: client.embeddings.create(model=DEMO.model, input="text"),
        "images": lambda: client.images.generate(model=DEMO.model, prompt="a tree"),
        "audio": lambda: client.audio.speech.create(model=DEMO.model, input="text", voice="alloy"),
    }
    messages = {name: raised(openai.NotFoundError, call).message for name, call in calls.items()}
    assert all(len(message) > 30 for message in messages.values()), messages
    return "NotFoundError with a sentence"


@library.check("errors", "every place taken, max_retries=0; then with retries")
def busy():
    few = OpenAI(base_url=SPEAKING.v1, api_key=SPEAKING.key, max_retries=0)
    long = {"model": SPEAKING.model, "temperature": 0, "messages": asking("Wait for me.")}
    held = [few.chat.completions.create(**long, stream=True) for _ in range(2)]
    with held[0], held[1]:
        assert all(next(iter(stream)) for stream in held)
        error = raised(openai.RateLimitError, lambda: few.chat.completions.create(**{**long, "messages": CHAT}))
    assert float(error.response.headers["retry-after"]) > 0
    patient = few.with_options(max_retries=5).chat.completions.create(**{**long, "messages": CHAT})
    assert patient.choices[0].message.content
    return "RateLimitError with Retry-After; an answer once they were free"


library.end()
