"""One decision from one row: the definition that every faster path is tested against."""

from dataclasses import replace

import numpy as np

from deltaserve.errors import OtherGrammar
from deltaserve.server.decoding.correction import Corrected, correct
from deltaserve.server.decoding.deciding.corrector import Decision
from deltaserve.server.decoding.deciding.naming import NamesWanted, likely_next, names_wanted
from deltaserve.server.decoding.deciding.verification import verify
from deltaserve.server.decoding.explanation import explain
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.noise import Noise
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Policy
from deltaserve.server.decoding.protocols import NO_FLOATS, NO_IDS, Floats, OffsetRow, Proposal
from deltaserve.server.decoding.ranking import most_probable
from deltaserve.server.decoding.sampling import Target, target


def goal_at(row: OffsetRow, proposal: Proposal, params: SamplingParams, policy: Policy, history: History) -> Target:
    """What the token at this position is drawn from.

    Where the black box leaves no mass to what a constraint allows, its list tells nothing of it and the pair decides:
    the limit of an imputed tail whose mass goes to 0.
    """
    goal = target(_told(row, proposal, policy, history), params, history, policy.guard)
    if goal.allowed is None or goal.possible:
        return goal
    untold = replace(proposal, top_ids=NO_IDS, top_logprobs=NO_FLOATS, log_cap=None, masked=False)
    return target(_told(row, untold, policy, history), params, history, policy.guard)


def _told(row: OffsetRow, proposal: Proposal, policy: Policy, history: History) -> Corrected:
    return correct(proposal, row, policy.tail, history.touched(), history.allowed() if proposal.masked else None)


def _require_same(proposal: Proposal, goal: Target) -> None:
    """A masked list is of use where the black box allows what we allow: what it forbids has no number.

    Raises OtherGrammar where the list shows that it does not, or cannot show it. It looks at the list alone, never at
    what was drawn, so that leaving the list aside changes no distribution.
    """
    listed, allowed = proposal.top_ids, goal.allowed
    if allowed is None or not allowed.at(listed).all() or (proposal.whole and allowed.count > listed.size):
        raise OtherGrammar
    ends = np.array([i for i in goal.params.end_ids if i in allowed], np.int64)
    if ends.size > 1 and not np.isin(ends, listed).all():  # it may know one of them only
        raise OtherGrammar


def decide_from_row(
    row: OffsetRow,
    proposal: Proposal,
    params: SamplingParams,
    policy: Policy,
    history: History,
    noise: Noise,
    draft_temperature: float | None,
    drawn_from: Floats | None = None,
) -> tuple[Decision, Target]:
    """The token at this position, an exact draw from the target, which is given too.

    `drawn_from` [V]: what a draft of the pair was drawn from, where the proposal does not hold it.
    Raises NamesWanted where the policy has ids asked for by name first, OtherGrammar where the list is not of what the
    constraint allows.
    """
    goal = goal_at(row, proposal, params, policy, history)
    if proposal.masked:
        _require_same(proposal, goal)
    if (names := names_wanted(proposal, goal, policy.asking)).size:
        raise NamesWanted([(0, names)], likely_next(proposal, goal, policy.asking))
    if proposal.unlisted and not goal.certified:
        raise NamesWanted([(0, NO_IDS)])
    if drawn_from is not None:
        proposal = replace(proposal, drawn_from=drawn_from)
    token_id = verify(proposal, goal, draft_temperature, noise, history.length)
    if goal.allowed is not None and token_id not in goal.allowed:
        raise ArithmeticError("a token that the constraint does not allow")
    corrected = goal.corrected if goal.corrected.k else _told(row, proposal, policy, history)
    top, explained = params.top_logprobs, policy.explain
    decision = Decision(
        token_id,
        goal.certified if params.temperature == 0.0 else None,
        corrected.tail_mass,
        None if top is None else corrected.log_q(token_id),
        most_probable(corrected, top) if top else None,
        explain(corrected, explained) if explained else None,
        goal.params is not params,
        forced=goal.allowed is not None and goal.allowed.count == 1,
        ends=history.held and history.completes(token_id),
    )
    return decision, goal


def forced_decision(history: History, params: SamplingParams) -> Decision | None:
    """The only token that the constraint allows next; None where there are more, or the answer is complete."""
    allowed = history.allowed()
    if allowed is None or allowed.count != 1:
        return None
    token_id = int(allowed.ids[0])
    if token_id in params.end_ids and history.length < params.min_tokens:
        return None
    certified = True if params.temperature == 0.0 else None
    return Decision(token_id, certified, 0.0, forced=True, ends=history.completes(token_id))
