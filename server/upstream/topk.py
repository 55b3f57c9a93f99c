"""What every dialect's top-k must be before the core may see it."""

from dataclasses import dataclass
from math import exp, isnan
from operator import ge

import numpy as np

from server.decoding.protocols import Proposal
from server.errors import MalformedTopK

SENTINEL = -9999.0  # vLLM's and OpenAI's −inf; llama.cpp sends the most negative float; both weigh nothing in float64
_POSITIVE_SLACK = 1e-4  # float32 log-softmax of a near-certain token
_MASS_SLACK = 1e-3  # the same over 152k entries: 1.0005 was seen


@dataclass(frozen=True, slots=True)
class TopKRules:
    """What was asked for, and what the vocabulary allows."""

    k: int
    vocab_size: int  # ids the tokenizer has
    padded_size: int  # ids the upstream's model has: rows past `vocab_size` are padding, dropped when listed

    @property
    def least(self) -> int:
        """Fewest entries a list may have."""
        return min(self.k, self.padded_size)


def checked_proposal(
    token_id: int, ids: list[int], logprobs: list[float], rules: TopKRules, told: float | None = None
) -> Proposal:
    """The proposal, or MalformedTopK saying what is wrong; entries of probability zero and padded ids are dropped.

    `told`: log-probability of `token_id`, where it came beside the list.

    Plain lists are checked, not arrays: at k = 20 numpy's call overhead costs three times as much.
    """
    try:
        _check(token_id, ids, logprobs, rules)
        if told is not None and not told <= _POSITIVE_SLACK:
            raise MalformedTopK("The upstream's log-probabilities are above zero: they are not normalised.")
    except (TypeError, ValueError, OverflowError):
        raise MalformedTopK("The upstream's top-k holds something that is no number.") from None
    if logprobs[-1] <= SENTINEL or max(ids) >= rules.vocab_size:
        kept = [at for at, i in enumerate(ids) if i < rules.vocab_size and logprobs[at] > SENTINEL]
        ids, logprobs = [ids[at] for at in kept], [logprobs[at] for at in kept]
        if not ids:
            raise MalformedTopK("The upstream listed no token of positive probability.")
    values = np.array(logprobs, np.float64)
    if logprobs[0] > 0:
        values = np.minimum(values, 0.0)
    known = token_id if token_id < rules.vocab_size else None
    return Proposal(known, np.array(ids, np.int64), values, token_logprob=told)


def _check(token_id: int, ids: list[int], logprobs: list[float], rules: TopKRules) -> None:
    if not ids or len(ids) != len(logprobs):
        raise MalformedTopK("The upstream's top-k is empty, or its ids and log-probabilities do not pair up.")
    if len(ids) < rules.least:
        raise MalformedTopK(f"The upstream listed {len(ids)} tokens where {rules.least} were asked for.")
    if len(set(ids)) != len(ids):
        raise MalformedTopK("The upstream listed the same token twice.")
    if type(sum(ids)) is not int or type(token_id) is not int:
        raise TypeError
    if min(ids) < 0 or max(ids) >= rules.padded_size or not 0 <= token_id < rules.padded_size:
        raise MalformedTopK("The upstream listed a token id that the tokenizer does not have.")
    # Comparisons catch NaN too: it compares false with everything.
    if not (logprobs[0] <= _POSITIVE_SLACK and all(map(ge, logprobs, logprobs[1:]))):
        raise MalformedTopK(_what_is_wrong(logprobs))
    if sum(map(exp, logprobs)) > 1 + _MASS_SLACK:
        raise MalformedTopK("The upstream's log-probabilities add up to more than one: they are not normalised.")


def _what_is_wrong(logprobs: list[float]) -> str:
    if any(isnan(value) for value in logprobs):
        return "The upstream's top-k holds a NaN."
    if max(logprobs) > _POSITIVE_SLACK:
        return "The upstream's log-probabilities are above zero: they are not normalised."
    return "The upstream's top-k is not sorted from most to least probable."


def is_text(raw: bytes) -> bool:
    """Whether the bytes are whole UTF-8 characters."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def ranked_proposal(drawn: int, ids: list[int], logprobs: list[float], rules: TopKRules) -> Proposal:
    """Undo "drawn token first": a drawn one past the k listed is taken out, one among them goes back to its rank."""
    told: float | None = None
    if drawn in ids and (len(ids) > rules.k or ids[0] == drawn):
        at = ids.index(drawn)
        if len(ids) > rules.k:
            told = logprobs[at]
            del ids[at], logprobs[at]
        elif len(ids) > 1 and logprobs[0] < logprobs[1]:
            _move_first_to_rank(ids, logprobs)
    return checked_proposal(drawn, ids, logprobs, rules, told)


def _move_first_to_rank(ids: list[int], logprobs: list[float]) -> None:
    token, value = ids.pop(0), logprobs.pop(0)
    rank = next((at for at, other in enumerate(logprobs) if other < value), len(ids))
    ids.insert(rank, token)
    logprobs.insert(rank, value)
