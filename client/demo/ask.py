"""Questions to either side, over HTTP, several at a time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import httpx2 as httpx

from client.calls import GREEDY
from client.client import AsyncClient
from client.demo.servers import Running
from offset_models.demo.questions import Question, Split, judging_questions

MAX_TOKENS: Final = 40  # answers of the register have about 20
AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """One question and what both sides said."""

    split: Split
    question: str
    black_box: str
    served: str


async def answers(side: Running, questions: Sequence[Question]) -> list[str]:
    """Greedy answers, each question asked in a chat of its own."""
    places = asyncio.Semaphore(AT_ONCE)
    how = replace(GREEDY, max_tokens=MAX_TOKENS, model=await model_of(side))
    async with AsyncClient(side.url) as client:

        async def one(question: Question) -> str:
            async with places:
                return (await client.chat([{"role": "user", "content": question.text}], how)).text

        return await asyncio.gather(*map(one, questions))


async def model_of(side: Running) -> str:
    """The name to ask for."""
    async with AsyncClient(side.url) as client:
        return (await client.models())[0].id


async def has_page(side: Running, path: str) -> bool:
    """Whether a browser would find something there."""
    async with httpx.AsyncClient(base_url=side.url, trust_env=False, follow_redirects=True) as client:
        return (await client.get(path)).status_code == 200


async def before_and_after(black_box: Running, served: Running, each: int) -> list[Asked]:
    """The first `each` forget and retain questions about different people, asked of both sides."""
    chosen = examples(each)
    questions = [question for _, question in chosen]
    before, after = await asyncio.gather(answers(black_box, questions), answers(served, questions))
    return [
        Asked(split, question.text, one, other)
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
