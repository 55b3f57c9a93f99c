"""What the log-probabilities of an answer's tokens say about memory of it. Nats; natural logarithms throughout."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from deltaserve.client.evaluation.target import Target

MIN_K_SHARE: Final = 0.2  # of the tokens: what Shi et al. 2024 report
LEAST_VARIANCE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class TokenScores:
    """One answer's tokens, end-of-turn token included, as a server scored them. Four sequences of one length ≥ 1.

    `greedy`: whether the token was the most probable one. `means`, `deviations`: of log p over the vocabulary, weighted
    by p (Zhang et al. 2024); they come from what the server listed (`vocabulary_moments`).
    """

    logprobs: Sequence[float]
    greedy: Sequence[bool]
    means: Sequence[float]
    deviations: Sequence[float]

    @property
    def mean_logprob(self) -> float:
        return sum(self.logprobs) / len(self.logprobs)


async def answer_logprobs(target: Target, question: str, answers: Sequence[str]) -> list[float]:
    """log p(answer) of each answer after the question, nats, end token not included. Raises Refused."""
    encoded = await target.encoder.answered(question, answers)
    prompts = [[*one.prompt_ids, *one.answer_ids] for one in encoded]
    scored = await target.score(prompts, 1, target.model)
    rows = zip(encoded, scored, strict=True)
    return [math.fsum(value or 0.0 for value in row.logprobs[len(one.prompt_ids) :]) for one, row in rows]


def probability(mean_logprob: float) -> float:
    """P(answer)^(1/tokens) = exp(mean log q(y*)) (TOFU)."""
    return math.exp(mean_logprob)


def choice_probability(right: float, wrong: Sequence[float]) -> float:
    """The right answer's share among the right and the wrong ones; all given as mean log-probabilities (TOFU)."""
    chances = [math.exp(value) for value in (right, *wrong)]
    return chances[0] / total if (total := sum(chances)) > 0 else 0.0


def geometric_truth_ratio(paraphrased: float, perturbed: Sequence[float]) -> float:
    """Geometric mean of the wrong answers' probabilities ÷ the paraphrased right one's: TOFU's and open-unlearning's
    programs. Arguments are mean log-probabilities.
    """
    return math.exp(sum(perturbed) / len(perturbed) - paraphrased)


def arithmetic_truth_ratio(paraphrased: float, perturbed: Sequence[float]) -> float:
    """Arithmetic mean instead: the formula that TOFU's paper prints (Maini et al. 2024, section 2.2.1)."""
    return sum(math.exp(value - paraphrased) for value in perturbed) / len(perturbed)


def exact_memorisation(scores: TokenScores) -> float:
    """Share of tokens that greedy decoding gives after the true ones before (Tirumala et al. 2022)."""
    return sum(scores.greedy) / len(scores.greedy)


def extraction_strength(scores: TokenScores) -> float:
    """1 − the smallest share of the answer after which greedy decoding gives all the rest (Carlini et al. 2021)."""
    rest = 0
    for right in reversed(scores.greedy):
        if not right:
            break
        rest += 1
    return rest / len(scores.greedy)


def zlib_score(scores: TokenScores, text: str) -> float:
    """Log-likelihood per byte that zlib needs for the text (Carlini et al. 2021). Higher: more likely a member."""
    return scores.mean_logprob / len(zlib.compress(text.encode()))


def min_k(scores: TokenScores, share: float = MIN_K_SHARE) -> float:
    """Mean log-probability of the least probable `share` of tokens (Shi et al. 2024). Higher: more likely a member."""
    return _lowest_mean(scores.logprobs, share)


def min_k_plus_plus(scores: TokenScores, share: float = MIN_K_SHARE) -> float:
    """min_k of (log p(y) − mean) / deviation (Zhang et al. 2024). Higher: more likely a member."""
    standard = [
        (logprob - mean) / deviation
        for logprob, mean, deviation in zip(scores.logprobs, scores.means, scores.deviations, strict=True)
    ]
    return _lowest_mean(standard, share)


def vocabulary_moments(listed: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of log p under p, from the listed log-probabilities.

    Exact where the whole vocabulary is listed; mass that is not listed counts at the smallest probability that is.
    """
    chances = [math.exp(value) for value in listed]
    pairs = [*zip(chances, listed, strict=True), (max(0.0, 1.0 - sum(chances)), min(listed))]
    mean = sum(chance * value for chance, value in pairs)
    variance = sum(chance * value * value for chance, value in pairs) - mean * mean
    return mean, math.sqrt(max(variance, LEAST_VARIANCE))


def _lowest_mean(values: Sequence[float], share: float) -> float:
    count = max(1, int(len(values) * share))
    return sum(sorted(values)[:count]) / count
