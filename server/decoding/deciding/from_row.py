"""One decision from one row: the definition that every faster path is tested against."""

from dataclasses import replace

from deltaserve.server.decoding.correction import correct
from deltaserve.server.decoding.deciding.corrector import Decision
from deltaserve.server.decoding.deciding.naming import NamesWanted, names_wanted
from deltaserve.server.decoding.explanation import explain
from deltaserve.server.decoding.noise import Noise
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Policy
from deltaserve.server.decoding.protocols import Floats, OffsetRow, Proposal
from deltaserve.server.decoding.ranking import most_probable
from deltaserve.server.decoding.sampling import History, Target, target
from deltaserve.server.decoding.verification import verify


def goal_at(row: OffsetRow, proposal: Proposal, params: SamplingParams, policy: Policy, history: History) -> Target:
    """What the token at this position is drawn from."""
    return target(correct(proposal, row, policy.tail, history.touched()), params, history, policy.guard)


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
    Raises NamesWanted where the policy has ids asked for by name first.
    """
    goal = goal_at(row, proposal, params, policy, history)
    corrected = goal.corrected
    if (names := names_wanted(proposal, goal, policy.naming)).size:
        raise NamesWanted([(0, names)])
    if drawn_from is not None:
        proposal = replace(proposal, drawn_from=drawn_from)
    token_id = verify(proposal, goal, draft_temperature, noise, history.length)
    top, explained = params.top_logprobs, policy.explain
    decision = Decision(
        token_id,
        goal.certified if params.temperature == 0.0 else None,
        corrected.tail_mass,
        None if top is None else corrected.log_q(token_id),
        most_probable(corrected, top) if top else None,
        explain(corrected, explained) if explained else None,
        goal.params is not params,
    )
    return decision, goal
