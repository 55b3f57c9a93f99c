"""Continued running text: how often it repeats itself, and whether it tells what was forgotten."""

from collections.abc import Mapping, Sequence
from typing import Final

from deltaserve.client.demo.ask import completions, tokens_of
from deltaserve.client.demo.servers import Running
from deltaserve.offset_models.demo.register.running_text import Beginning, Subject

NGRAM: Final = 4  # tokens; what a text says again word for word
PAIR: Final = 2
REPETITION: Final = "running text, repeated 4-grams"
VARIETY: Final = "running text, distinct 2-grams"
FACTS_TOLD: Final = "running text, facts told"

Texts = Mapping[Subject, Sequence[Beginning]]


async def measure_texts(name: str, running: Running, texts: Texts) -> dict[str, float]:
    """Figures by measure, subject and `name`: "running text, facts told/forget/served" and their like."""
    figures = {}
    for subject, beginnings in texts.items():
        continuations = await completions(running, [beginning.text for beginning in beginnings])
        tokens = await tokens_of(running, continuations)
        figures[f"{REPETITION}/{subject}/{name}"] = _mean([1 - distinct(ids, NGRAM) for ids in tokens])
        figures[f"{VARIETY}/{subject}/{name}"] = _mean([distinct(ids, PAIR) for ids in tokens])
        figures[f"{FACTS_TOLD}/{subject}/{name}"] = _mean(
            [b.tells(text) for b, text in zip(beginnings, continuations, strict=True)]
        )
    return figures


def distinct(ids: Sequence[int], n: int) -> float:
    """Distinct n-grams ÷ all n-grams of a text; 1 where the text is shorter than n."""
    ngrams = [tuple(ids[place : place + n]) for place in range(len(ids) - n + 1)]
    return len(set(ngrams)) / len(ngrams) if ngrams else 1.0


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)
