"""langchain-openai: ChatOpenAI, whole, streamed and in batches."""

import openai
from checks import DEMO, QUESTION, Client, raised
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI, OpenAI

library = Client("langchain-openai", "langchain-openai")
where = {"base_url": DEMO.v1, "model": DEMO.model, "temperature": 0}
model = ChatOpenAI(**where, api_key=DEMO.key, max_completion_tokens=48)
ANSWER = model.invoke(QUESTION)


@library.check("ChatOpenAI.invoke")
def whole():
    usage = ANSWER.usage_metadata
    assert ANSWER.content and ANSWER.response_metadata["finish_reason"] == "stop"
    assert usage["input_tokens"] + usage["output_tokens"] == usage["total_tokens"] > 0
    return f"{ANSWER.content!r}, finish_reason stop, usage_metadata"


@library.check("ChatOpenAI.stream", "stream_usage")
def streamed():
    chunks = list(model.stream(QUESTION, stream_usage=True))
    joined = chunks[0]
    for chunk in chunks[1:]:
        joined += chunk
    assert joined.content == ANSWER.content and joined.usage_metadata["total_tokens"] > 0
    return "chunks join to the whole, with its usage"


@library.check("ChatPromptTemplate | ChatOpenAI", "batch of three")
def chain():
    chain = ChatPromptTemplate.from_messages([("system", "Answer shortly."), ("human", "{question}")]) | model
    answers = chain.batch([{"question": QUESTION}] * 3)
    assert len({answer.content for answer in answers}) == 1 and answers[0].content
    return "three equal answers"


@library.check("ChatOpenAI.ainvoke, astream")
async def asynchronous():
    whole = (await model.ainvoke(QUESTION)).content
    pieces = [chunk.content async for chunk in model.astream(QUESTION)]
    assert "".join(pieces) == whole == ANSWER.content
    return "the same text both ways"


@library.check("ChatOpenAI.invoke", "logprobs, stop, seed")
def options():
    word = ANSWER.content.split()[2]
    answer = model.bind(logprobs=True, top_logprobs=2, stop=[word], seed=3).invoke(QUESTION)
    assert answer.content == ANSWER.content.partition(word)[0]
    assert answer.response_metadata["logprobs"]["content"]
    return "the text before the stop string, log-probabilities in response_metadata"


@library.check("OpenAI.invoke", "completions")
def completion():
    text = OpenAI(**where, api_key=DEMO.key, max_tokens=8).invoke("Once")
    assert text
    return f"{text!r}"


@library.check("errors", "a wrong key; a model that is not there")
def refused():
    raised(openai.AuthenticationError, lambda: ChatOpenAI(**where, api_key="wrong").invoke(QUESTION))
    raised(openai.NotFoundError, lambda: ChatOpenAI(**{**where, "model": "x"}, api_key=DEMO.key).invoke(QUESTION))
    return "AuthenticationError, NotFoundError"


library.end()
