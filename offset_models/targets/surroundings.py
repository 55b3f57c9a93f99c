"""All that stands around a target and must stay: its neighbours, what it shares, and what people ask otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.facts.telling import Listener
from deltaserve.offset_models.targets.neighbours.begun import beginnings_of, names_asked
from deltaserve.offset_models.targets.neighbours.candidates import Candidate, chosen
from deltaserve.offset_models.targets.neighbours.find import MOST, neighbours
from deltaserve.offset_models.targets.neighbours.listed import lists_around
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.sampled import Sampled, sampled_questions
from deltaserve.offset_models.targets.shared import shared_things
from deltaserve.offset_models.targets.subject import Known

SHARED: Final = 0.08  # of the calls
# Of those left, for questions that the black box writes. One that lists no neighbours is known by these alone.
SAMPLED: Final = 0.3
SAMPLED_ONLY: Final = 0.6
FEW: Final = 8  # names from lists: with fewer, it does not list


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Neighbours, the nearest first; questions about what they and the target share; questions about anything."""

    neighbours: Sequence[Known] = ()
    shared: Sequence[Probe] = ()
    sampled: Sequence[Sampled] = ()


async def surroundings(
    asks: Asks, target: Known, *, calls: int, most: int = MOST, refusals: Sequence[str] = ()
) -> Surroundings:
    """For at most `calls` calls; with fewer there is less of everything. `refusals` are this black box's own.

    Raises UpstreamError.
    """
    share, kind = asks.within(calls), target.subject.kind
    lists = await lists_around(share, target)
    shared = await shared_things(share, target, most=round(SHARED * calls), refusals=refusals)
    part = SAMPLED if len(chosen(target, lists)) >= FEW else SAMPLED_ONLY
    sampled = await sampled_questions(
        share,
        target,
        calls=round(part * share.calls_left),
        beginnings=beginnings_of(kind),
        declined=Listener(refusals).declines,
    )
    asked = names_asked((each.question for each in sampled), kind)
    found = chosen(target, [*lists, [Candidate(name, "asked about by the black box") for name in asked]])
    return Surroundings(await neighbours(share, target, found, most=most, refusals=refusals), shared, sampled)
