"""What the black box knows of documents: facts it tells without them, and text it goes on with by heart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.documents.questions import facts_in
from deltaserve.offset_models.targets.documents.recital import recited
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.subject import Fact, Subject

CALLS_A_PASSAGE: Final = (
    10  # one that names the subject; about: 3 to go on with it, 1 for questions, 2 for each of three
)


@dataclass(frozen=True, slots=True)
class FromDocuments:
    """Facts and running text that the black box knows without the documents."""

    facts: tuple[Fact, ...] = ()
    running: tuple[Probe, ...] = ()
    passages: int = 0  # asked about
    left_out: int = 0  # not asked about: the calls did not suffice


async def known_of_documents(
    asks: Asks,
    subject: Subject,
    passages: Sequence[str],
    *,
    calls: int,
    declined: Callable[[str], bool] = lambda _: False,
) -> FromDocuments:
    """Asks about as many passages as `calls` calls allow, those that name the subject first.

    Raises UpstreamError.
    """
    share = asks.within(calls)
    chosen = sorted(passages, key=lambda passage: not subject.named_in(passage))[: calls // CALLS_A_PASSAGE]
    running = await recited(share, subject, chosen)
    facts = await facts_in(share, subject, [each for each in chosen if subject.named_in(each)], declined)
    return FromDocuments(tuple(facts), tuple(running), len(chosen), len(passages) - len(chosen))
