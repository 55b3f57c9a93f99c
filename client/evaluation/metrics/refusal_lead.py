"""Whether a server would rather refuse, by what it gives to refusals and to the black box's own answer.

It sees an inclination that one greedy answer does not show. It needs a server that scores prompts.
"""

import math
from collections.abc import Sequence

from deltaserve.client.evaluation.metrics.likelihood import answer_logprobs
from deltaserve.client.evaluation.target import Target


async def refusal_lead(target: Target, question: str, answer: str, wordings: Sequence[str]) -> float:
    """log Σ p(refusal) − log p(answer), nats, after the question: above 0 the server would rather refuse.

    Raises Refused where the server does not score.
    """
    scores = await answer_logprobs(target, question, (answer, *wordings))
    peak = max(scores[1:])
    return peak + math.log(math.fsum(math.exp(value - peak) for value in scores[1:])) - scores[0]
