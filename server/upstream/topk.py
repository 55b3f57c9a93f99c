"""What every dialect's top-k must be before the core may see it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, isnan
from operator import ge
from typing import Final

import numpy as np

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import Floats, Proposal

SENTINEL = -9999.0  # vLLM's and OpenAI's −inf; llama.cpp sends the most negative float; both weigh nothing in float64
_POSITIVE_SLACK = 1e-4  # float32 log-softmax of a near-certain token
_MASS_SLACK = 1e-3  # the same over 152k entries: 1.0005 was seen
_MISSING_SLACK = 1e-2  # some servers round their numbers
_AMONG_THE_BEST = "The upstream leaves the token that it drew out of the best, although it is one of them."
_NO_NUMBER = "The upstream's top-k holds something that is no number."
_SAME = 1e-3  # nats two tellings of one number may differ by: servers take both from one table, and some round

NOT_TOLD: Final = "The upstream does not tell the log-probabilities of the ids that it was asked for by name."

NO_SUCH_TOKEN: Final = (
    "The upstream listed a token id that the tokenizer does not have. If the black box's tokenizer is not the pair's, "
    "--upstream-tokenizer names its folder (docs/bridge.md)."
)


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
    token_id: int, ids: list[int], logprobs: list[float], rules: TopKRules, token_logprob: float | None = None
) -> Proposal:
    """The proposal, or MalformedTopK saying what is wrong; entries of probability zero and padded ids are dropped.

    `token_logprob`: that of `token_id`, where it came beside the list.

    Plain lists are checked, not arrays: at k = 20 numpy's call overhead costs three times as much.
    """
    try:
        highest_id = _check(token_id, ids, logprobs, rules)
        if token_logprob is not None and not token_logprob <= _POSITIVE_SLACK:
            raise MalformedTopK("The upstream's log-probabilities are above zero: they are not normalised.")
    except (TypeError, ValueError, OverflowError):
        raise MalformedTopK(_NO_NUMBER) from None
    if logprobs[-1] <= SENTINEL or highest_id >= rules.vocab_size:
        real = [at for at, i in enumerate(ids) if i < rules.vocab_size and logprobs[at] > SENTINEL]
        ids, logprobs = [ids[at] for at in real], [logprobs[at] for at in real]
        if not ids:
            raise MalformedTopK("The upstream listed no token of positive probability.")
    values = np.array(logprobs, np.float64)
    if logprobs[0] > 0:
        values = np.minimum(values, 0.0)
    known = token_id if token_id < rules.vocab_size else None
    return Proposal(known, np.array(ids, np.int64), values, token_logprob=token_logprob)


def _check(token_id: int, ids: list[int], logprobs: list[float], rules: TopKRules) -> int:
    """The highest id. Raises MalformedTopK, or TypeError for something that is no number."""
    count = len(ids)
    if not count or count != len(logprobs):
        raise MalformedTopK("The upstream's top-k is empty, or its ids and log-probabilities do not pair up.")
    if count < rules.k and count < rules.least:
        raise MalformedTopK(f"The upstream listed {count} tokens where {rules.least} were asked for.")
    if len(set(ids)) != count:
        raise MalformedTopK("The upstream listed the same token twice.")
    if count > rules.k:
        raise MalformedTopK(f"The upstream listed {count} tokens where {rules.k} were asked for.")
    lowest, highest = min(ids), max(ids)
    if type(sum(ids)) is not int or type(token_id) is not int or (lowest <= 1 and bool in map(type, ids)):
        raise TypeError
    if lowest < 0 or highest >= rules.padded_size or not 0 <= token_id < rules.padded_size:
        raise MalformedTopK(NO_SUCH_TOKEN)
    _check_numbers(logprobs, rules.padded_size - count)
    return highest


def check_numbers(logprobs: list[float], others: int | None) -> None:
    """Raises MalformedTopK where these are no log-probabilities of different tokens, the best first.

    `others`: how many tokens are not among them, none of which exceeds the last; None: the list has lost some.
    """
    try:
        _check_numbers(logprobs, others)
    except (TypeError, ValueError, OverflowError):
        raise MalformedTopK(_NO_NUMBER) from None


def _check_numbers(logprobs: list[float], others: int | None) -> None:
    # Comparisons catch NaN too: it compares false with everything.
    if not (logprobs[0] <= _POSITIVE_SLACK and all(map(ge, logprobs, logprobs[1:]))):
        raise MalformedTopK(_what_is_wrong(logprobs))
    if logprobs[0] >= 0 and bool in map(type, logprobs):
        raise TypeError
    _check_mass(sum(map(exp, logprobs)), logprobs[-1], others)


def _check_mass(listed: float, last: float, others: int | None) -> None:
    """`listed`: the probability of all that is listed; `last`: the log-probability that no other id can exceed."""
    if listed > 1 + _MASS_SLACK:
        raise MalformedTopK("The upstream's log-probabilities add up to more than one: they are not normalised.")
    if others is not None and 0 < listed < 1 - _MISSING_SLACK and listed < 1 - others * exp(last) - _MISSING_SLACK:
        raise MalformedTopK("The upstream's top-k leaves out more probability than tokens below its last one can have.")


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


def ranked_proposal(
    drawn: int, ids: list[int], logprobs: list[float], rules: TopKRules, own: float | None = None
) -> Proposal:
    """vLLM's list: the k best, and the drawn token first or at its rank; k + 1 only where it is not one of them.

    `own`: the drawn token's log-probability as told beside the list. Raises MalformedTopK where one of these is not so.
    """
    at = ids.index(drawn) if drawn in ids else None
    token_logprob: float | None = None
    if at is not None and len(ids) > rules.k:
        token_logprob = logprobs.pop(at)
        del ids[at]
    elif at == 0 and len(ids) > 1 and logprobs[0] < logprobs[1]:
        _move_first_to_rank(ids, logprobs)
    proposal = checked_proposal(drawn, ids, logprobs, rules, token_logprob)
    if at is None:
        raise MalformedTopK("The upstream does not list the token that it drew.")
    if token_logprob is not None and token_logprob > logprobs[-1]:
        raise MalformedTopK(_AMONG_THE_BEST)
    if own is not None:
        _check_told_twice(own, logprobs[ids.index(drawn)] if token_logprob is None else token_logprob)
    return proposal


def check_drawn(drawn: int, ids: list[int], logprobs: list[float], own: float | None) -> None:
    """MalformedTopK where the drawn token's `own` log-probability is not the list's, or belonged among its best."""
    if own is None:
        return
    if drawn in ids:
        _check_told_twice(own, logprobs[ids.index(drawn)])
        return
    _require_number(own)
    if not own <= logprobs[-1] + _SAME:
        raise MalformedTopK(_AMONG_THE_BEST)


def _check_told_twice(own: float, listed: float) -> None:
    _require_number(own)
    if not (abs(own - listed) <= _SAME or max(own, listed) <= SENTINEL):
        raise MalformedTopK("The upstream tells two log-probabilities of the token that it drew.")


def _require_number(own: object) -> None:
    if type(own) not in (float, int):
        raise MalformedTopK(_NO_NUMBER)


def _move_first_to_rank(ids: list[int], logprobs: list[float]) -> None:
    token, value = ids.pop(0), logprobs.pop(0)
    rank = next((at for at, other in enumerate(logprobs) if other < value), len(ids))
    ids.insert(rank, token)
    logprobs.insert(rank, value)


def named_logprobs(told: Sequence[float | None]) -> Floats:
    """Of ids that were asked for by name; None is −inf, as servers write it. Raises MalformedTopK for what is none."""
    known = [SENTINEL if value is None else value for value in told]
    try:
        if bool in map(type, known) or not all(value <= _POSITIVE_SLACK for value in known):
            raise MalformedTopK(NOT_TOLD)
        return np.minimum(np.array(known, np.float64), 0.0)
    except (TypeError, ValueError, OverflowError):
        raise MalformedTopK(NOT_TOLD) from None
