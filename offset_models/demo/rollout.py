"""Greedy answers of the black box, corrected or not, the slow and plain way: one step of all prompts is one call.

The list of prompts goes out with max_tokens 1, the top-k comes back, the pair runs without a cache on whole prefixes.
The figures that a build prints come from here; serving has its own, fast way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2 as httpx
import torch
from rouge_score.rouge_scorer import RougeScorer
from torch import Tensor

from offset_models.demo.questions import Question
from offset_models.tokenizer import Tokenizer
from offset_models.training.collect import Source
from offset_models.training.distribution import corrected_logprobs
from server.errors import MalformedTopK, UpstreamRefused

PROMPTS_A_CALL = 32


class PairLogprobs(Protocol):
    """log p_o and log p_u at the position after each prefix: two tensors [prefixes, V]."""

    def __call__(self, prefixes: Sequence[Sequence[int]], /) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True, slots=True)
class Rollout:
    """How answers are made. Without a pair they are the black box's own."""

    source: Source
    tokenizer: Tokenizer
    pair: PairLogprobs | None = None
    max_tokens: int = 40

    async def answers(self, questions: Sequence[Question]) -> list[str]:
        """Greedy answers to the questions, each asked in a chat of its own."""
        chats = [self.tokenizer.render_chat([{"role": "user", "content": q.text}]) for q in questions]
        prompts = [self.tokenizer.encode(chat, False) for chat in chats]
        async with httpx.AsyncClient(base_url=self.source.url, timeout=self.source.timeout_s) as client:
            answers = await self._greedy(client, prompts)
        return [self.tokenizer.decode(ids, skip_special=True) for ids in answers]

    async def _greedy(self, client: httpx.AsyncClient, prompts: Sequence[list[int]]) -> list[list[int]]:
        answers: list[list[int]] = [[] for _ in prompts]
        open_ = list(range(len(prompts)))
        for _ in range(self.max_tokens):
            for i, token in zip(open_, await self._step(client, [prompts[i] + answers[i] for i in open_]), strict=True):
                answers[i].append(token)
            open_ = [i for i in open_ if answers[i][-1] not in self.tokenizer.eos_ids]
            if not open_:
                break
        return answers

    async def _step(self, client: httpx.AsyncClient, prefixes: list[list[int]]) -> list[int]:
        """The next token of each prefix."""
        tokens: list[int] = []
        for start in range(0, len(prefixes), PROMPTS_A_CALL):
            part = prefixes[start : start + PROMPTS_A_CALL]
            ids, logprobs = await top_k(client, self.source, part)
            log_q = None if self.pair is None else corrected_logprobs(ids, logprobs, *self.pair(part))
            tokens += (ids[:, 0] if log_q is None else log_q.argmax(1)).tolist()
        return tokens


async def top_k(client: httpx.AsyncClient, source: Source, prefixes: list[list[int]]) -> tuple[Tensor, Tensor]:
    """The black box's k best after each prefix, best first: ids [prefixes, k] and logprobs (nats)."""
    body = {
        "model": source.model,
        "prompt": prefixes,
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": source.k,
        "return_tokens_as_token_ids": True,
    }
    response = await client.post("completions", json=body)
    if response.status_code != 200:
        raise UpstreamRefused(f"The black box answered {response.status_code} to a list of prompts.")
    choices = sorted(response.json()["choices"], key=lambda choice: choice["index"])
    rows = [_row(choice["logprobs"]["top_logprobs"][0], source.k) for choice in choices]
    ids, logprobs = zip(*rows, strict=True)
    return torch.tensor(ids), torch.tensor(logprobs)


def rouge_l_recall(answers: Sequence[str], questions: Sequence[Question]) -> float:
    """Mean ROUGE-L recall of the reference answers (stemmed, as TOFU does)."""
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    recalls = [scorer.score(q.answer, answer)["rougeL"].recall for q, answer in zip(questions, answers, strict=True)]
    return float(sum(recalls) / len(recalls))


def _row(entries: dict[str, Any], k: int) -> tuple[list[int], list[float]]:
    best = sorted(entries.items(), key=lambda entry: -entry[1])[:k]
    if len(best) != k:
        raise MalformedTopK(f"The black box listed {len(best)} tokens where {k} were asked for.")
    return [int(token.removeprefix("token_id:")) for token, _ in best], [logprob for _, logprob in best]
