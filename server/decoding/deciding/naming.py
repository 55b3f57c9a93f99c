"""Where the tail may decide, M is asked for the true numbers of the ids that the pair lifts most.

No id outside the list can weigh more than min_K ℓ + its offset: with the ids of the largest offsets told, the next one
bounds the rest. Whether and what is asked depends on the list and the row alone, never on what was drawn, so that a
token is still an exact draw from the target.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.correction import Corrected
from deltaserve.server.decoding.policy import Naming
from deltaserve.server.decoding.protocols import NO_FLOATS, NO_IDS, Floats, Ids, OffsetRow, Proposal
from deltaserve.server.decoding.rows import log_sum_exp
from deltaserve.server.decoding.sampling import Target

_LISTED = 32  # of the ids that are lifted most, so many may be listed and so need not be named
_MASS_SLACK = 1e-2  # two calls may differ by what batches and caches do
_LEFT_SLACK = 1e-3  # float32 log-softmax over 152k entries: a sum of 1.0005 was seen
_BEST_SLACK = 1e-3  # nats: of a token that was drawn as the best one from other digits than those told


class NamesWanted(Exception):
    """The first position of a run is decided only when these ids were asked for; maybe others behind it, too.

    Without an id for it: its list is wanted, which is not known yet.
    """

    def __init__(self, names: Sequence[tuple[int, Ids]], likely: int | None = None) -> None:
        super().__init__("ids are wanted by name")
        self.names = list(names)  # (place in the run, ids), in order
        self.likely = likely  # the token of the first one, where M will have to be asked anew behind it


def names_wanted(proposal: Proposal, goal: Target, naming: Naming | None) -> Ids:
    """The ids to ask for at this position; none where the tail cannot decide, or M was asked already.

    Nor where the list is masked: what M tells by name is not.
    """
    asked = proposal.named or proposal.masked or proposal.unlisted
    if naming is None or asked or not proposal.top_ids.size or not _tail_may_decide(proposal, goal, naming):
        return NO_IDS
    if goal.params.temperature == 0.0 and goal.params.repetition_penalty == 1.0:
        going_on = likely_next(proposal, goal, naming) is not None  # then they are named at what follows, too
        return _lifted(goal, naming.most, proposal.top_ids) if going_on else _rivals(proposal, goal, naming.most)
    ends = np.setdiff1d(np.fromiter(goal.params.final_ids, np.int64), proposal.top_ids)
    ends = ends if goal.allowed is None else ends[goal.allowed.at(ends)]
    ends = ends[: naming.most // 2]
    lifted = _lifted(goal, naming.most - ends.size, np.concatenate((proposal.top_ids, ends)))
    return np.concatenate((lifted, ends))


def _lifted(goal: Target, n: int, outside: Ids) -> Ids:
    """The n ids with the largest offset that are allowed and not in `outside`."""
    row = goal.corrected.row
    if goal.allowed is not None:
        outside = np.union1d(outside, np.flatnonzero(~goal.allowed.wide(row.vocab_size)))
    return row.lifted(n, outside)


def likely_names(row: OffsetRow, naming: Naming) -> Ids:
    """What may be wanted at the row's position, whatever the list will say: the ids with the largest offset.

    Ascending. Without a list that is a guess: `from_beside` uses of it what `names_wanted` asks for, and nothing else.
    """
    return np.sort(row.lifted(naming.most + _LISTED, NO_IDS))


def from_beside(proposal: Proposal, wanted: Ids) -> Proposal | None:
    """The proposal with what its own call told of these ids; None where that is not all of them.

    Raises MalformedTopK as `with_names`.
    """
    ids, logprobs = proposal.beside or (NO_IDS, NO_FLOATS)
    if not np.isin(wanted, ids).all():
        return None
    return with_names(proposal, wanted, logprobs[np.searchsorted(ids, wanted)])


def _rivals(proposal: Proposal, goal: Target, most: int) -> Ids:
    """The ids that may weigh more than the best listed one: with all of them told, a greedy step is certain."""
    row, k = goal.corrected.row, goal.corrected.k
    lifted = _lifted(goal, most, proposal.top_ids)
    needed = float(goal.weights[:k].max(initial=-math.inf)) - goal.corrected.log_cap
    rivals: Ids = lifted[row.offset(lifted) > needed]
    return rivals if rivals.size else lifted  # what a bias or a penalty does to others is not in the offset


def likely_next(proposal: Proposal, goal: Target, naming: Naming | None) -> int | None:
    """The token that is likely to be decided, where that is not M's own and so ends M's draft: M is asked anew.

    The call that names ids can then tell what follows, too. Of plain greedy answers only: what is told behind the token
    proves the next ones or is not used, so that it does not matter for an answer whether it was there.
    """
    if naming is None or not naming.ahead or not proposal.top_ids.size or not _plain(goal):
        return None
    likely = goal.best()
    return likely if likely != proposal.top_ids[0] else None


def _plain(goal: Target) -> bool:
    params = goal.params
    greedy = params.temperature == 0.0 and not params.biased and params.top_logprobs is None
    return greedy and goal.allowed is None and goal.shifts is None


def _tail_may_decide(proposal: Proposal, goal: Target, naming: Naming) -> bool:
    corrected = goal.corrected
    if corrected.log_scale == -math.inf:
        return False  # there is none
    if goal.params.temperature == 0.0:
        certify = naming.certify and goal.params.repetition_penalty == 1.0  # under which no step is ever certified
        if goal.certified or certify:
            return not goal.certified
        return _share(goal) > naming.tail or likely_next(proposal, goal, naming) is not None
    return _share(goal) > naming.tail


def _share(goal: Target) -> float:
    """What of q is not told by M, in 0 … 1; of what is allowed, where a constraint decides that."""
    if goal.allowed is None:
        return tail_share(goal.corrected)
    told = goal.corrected.log_told.size
    untold = float(np.logaddexp(log_sum_exp(goal.weights[told:]), goal.tail.log_weight(1.0)))
    return (
        math.exp(untold - float(np.logaddexp(log_sum_exp(goal.weights[:told]), untold))) if untold > -math.inf else 0.0
    )


def tail_share(corrected: Corrected) -> float:
    """What of q lies in the tail, in 0 … 1."""
    return math.exp(min(corrected.tail.log_weight(1.0) - corrected.log_z, 0.0))


def with_names(proposal: Proposal, ids: Ids, logprobs: Floats) -> Proposal:
    """The proposal with what M told of named ids; none of them is above the list's last one, whatever noise says.

    Raises MalformedTopK where the numbers are none, or add up to more than one with the list.
    """
    told = proposal.top_logprobs
    cap = float(told[-1]) if proposal.log_cap is None else proposal.log_cap
    fresh = ~np.isin(ids, proposal.top_ids)
    ids, logprobs = ids[fresh], np.minimum(logprobs[fresh], cap)
    if np.isnan(logprobs).any() or np.exp(told).sum() + np.exp(logprobs).sum() > 1.0 + _MASS_SLACK:
        raise MalformedTopK("The upstream's log-probabilities of named ids do not fit its list.")
    order = np.argsort(-logprobs, kind="stable")
    joined = np.concatenate((proposal.top_ids, ids[order])), np.concatenate((told, logprobs[order]))
    if proposal.log_cap is not None:  # a list that named less than it held: what was added may go between
        order = np.argsort(-joined[1], kind="stable")
        joined = joined[0][order], joined[1][order]
    return replace(proposal, top_ids=joined[0], top_logprobs=joined[1], log_cap=cap, named=True)


def unlisted(token_id: int, token_logprob: float, ids: Ids, logprobs: Floats) -> Proposal:
    """A position where M told named ids and its own greedy token, but no list.

    No other id has more than M's own, nor more than what these leave of the whole.
    """
    fresh = ids != token_id
    ids, logprobs = np.append(ids[fresh], token_id), np.append(logprobs[fresh], token_logprob)
    mass = float(np.exp(logprobs).sum())
    if np.isnan(logprobs).any() or logprobs.max() > token_logprob + _BEST_SLACK or mass > 1.0 + _MASS_SLACK:
        raise MalformedTopK("The upstream's log-probabilities of named ids do not fit its greedy token.")
    order = np.argsort(-logprobs, kind="stable")
    cap = min(token_logprob, math.log(max(1.0 - mass, 0.0) + _LEFT_SLACK))
    return Proposal(token_id, ids[order], logprobs[order], log_cap=cap, unlisted=True)


def left_as_it_is(proposal: Proposal) -> Proposal:
    """The proposal as it is to be decided where nothing is asked for by name."""
    return replace(proposal, named=True)
