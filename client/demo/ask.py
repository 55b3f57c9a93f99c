"""Questions to the black box or the server, over HTTP, several at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import httpx2 as httpx

from deltaserve.client.calls import GREEDY, Generation, Message
from deltaserve.client.client import AsyncClient
from deltaserve.client.demo.servers import Running
from deltaserve.offset_models.demo.register.questions import Question, Split, judging_questions

MAX_TOKENS: Final = 40  # answers of the register have about 20
TEXT_TOKENS: Final = 48  # of running text that is gone on with
AT_ONCE: Final = 8

Asking = TypeVar("Asking")
Answered = TypeVar("Answered")


@dataclass(frozen=True, slots=True)
class Pair:
    """One question and both answers."""

    split: Split
    question: str
    black_box: str
    served: str


async def answers(running: Running, questions: Sequence[Question]) -> list[str]:
    """Greedy answers, each question asked in a chat of its own."""
    how = replace(GREEDY, max_tokens=MAX_TOKENS, model=await model_of(running))
    async with AsyncClient(running.url) as client:

        async def answer(question: Question) -> str:
            return (await client.chat(_chat(question), how)).text

        return await _few_at_once(answer, questions)


async def drawn_answers(running: Running, questions: Sequence[Question]) -> list[str]:
    """Answers drawn at temperature 1 from the whole distribution, the i-th with seed i."""
    how = Generation(await model_of(running), MAX_TOKENS, temperature=1.0, top_p=1.0)
    async with AsyncClient(running.url) as client:

        async def answer(numbered: tuple[int, Question]) -> str:
            seed, question = numbered
            return (await client.chat(_chat(question), replace(how, seed=seed))).text

        return await _few_at_once(answer, list(enumerate(questions)))


async def completions(running: Running, texts: Sequence[str]) -> list[str]:
    """Greedy continuations of running text."""
    how = replace(GREEDY, max_tokens=TEXT_TOKENS, model=await model_of(running))
    async with AsyncClient(running.url) as client:

        async def completion(text: str) -> str:
            return (await client.complete(text, how)).text

        return await _few_at_once(completion, texts)


async def tokens_of(running: Running, texts: Sequence[str]) -> list[tuple[int, ...]]:
    """Token ids of each text, without special tokens."""
    async with AsyncClient(running.url) as client:

        async def tokens(text: str) -> tuple[int, ...]:
            return (await client.tokenize(text, add_special_tokens=False)).ids if text else ()

        return await _few_at_once(tokens, texts)


async def _few_at_once(ask: Callable[[Asking], Awaitable[Answered]], inputs: Sequence[Asking]) -> list[Answered]:
    """The results in the order of the inputs, AT_ONCE calls at a time."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(each: Asking) -> Answered:
        async with places:
            return await ask(each)

    return await asyncio.gather(*map(one, inputs))


def _chat(question: Question) -> list[Message]:
    return [{"role": "user", "content": question.text}]


async def model_of(running: Running) -> str:
    """The first model name that it lists."""
    async with AsyncClient(running.url) as client:
        return (await client.models())[0].id


async def has_page(running: Running, path: str) -> bool:
    """Whether GET `path` answers 200."""
    async with httpx.AsyncClient(base_url=running.url, trust_env=False, follow_redirects=True) as client:
        return (await client.get(path)).status_code == 200


async def before_and_after(black_box: Running, served: Running, each: int) -> list[Pair]:
    """The first `each` forget and retain questions about different people, answered by both servers."""
    chosen = examples(each)
    questions = [question for _, question in chosen]
    before, after = await asyncio.gather(answers(black_box, questions), answers(served, questions))
    return [
        Pair(split, question.text, one, other)
        for (split, question), one, other in zip(chosen, before, after, strict=True)
    ]


def examples(each: int) -> list[tuple[Split, Question]]:
    """The first `each` forget and retain questions about different people."""
    splits: tuple[Split, ...] = ("forget", "retain")
    return [(split, question) for split in splits for question in _different(split, each)]


def _different(split: Split, each: int) -> list[Question]:
    people: dict[str | None, Question] = {}
    for question in judging_questions(split):
        people.setdefault(question.person, question)
    return list(people.values())[:each]
