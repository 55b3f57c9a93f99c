"""How much of a reference text a generated one repeats: ROUGE (Lin 2004), stemmed, as TOFU and MUSE use it."""

import logging
from dataclasses import dataclass
from functools import cache

from rouge_score.rouge_scorer import RougeScorer

from deltaserve.offset_models.metrics.words import folded, words


@dataclass(frozen=True, slots=True)
class Overlap:
    """Shares of 1; of the reference (`recall`) or balanced with the generated text's own length (`f1`)."""

    rouge_1_recall: float
    rouge_l_recall: float
    rouge_l_f1: float


def overlap(reference: str, generated: str) -> Overlap:
    """All three at once. Of a reference without a letter or digit the other characters count."""
    if not reference.strip():
        same = float(not generated.strip())
        return Overlap(same, same, same)
    scores = _scorer(bool(words(reference))).score(reference, generated)
    return Overlap(scores["rouge1"].recall, scores["rougeL"].recall, scores["rougeL"].fmeasure)


def rouge_l_recall(reference: str, generated: str) -> float:
    """Length of the longest common subsequence of words ÷ words of the reference (TOFU, Maini et al. 2024)."""
    return overlap(reference, generated).rouge_l_recall


def verbatim_memorisation(continuation: str, generated: str) -> float:
    """ROUGE-L F1 between what follows a prefix of a text and what the model makes of it (MUSE, Shi et al. 2024)."""
    return overlap(continuation, generated).rouge_l_f1


class _Words:
    def tokenize(self, text: str) -> list[str]:
        return words(text)


class _Characters:
    def tokenize(self, text: str) -> list[str]:
        return [*"".join(folded(text).split())]


@cache
def _scorer(of_words: bool) -> RougeScorer:
    logging.getLogger("absl").setLevel(logging.WARNING)  # one line of its own for every scorer made
    return RougeScorer(["rouge1", "rougeL"], tokenizer=_Words() if of_words else _Characters())
