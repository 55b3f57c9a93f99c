"""What a request is made of, as far as the black box can tell: each stage within its share of the calls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from deltaserve.errors import BadRequest
from deltaserve.offset_models.targets.asking.asker import Asker
from deltaserve.offset_models.targets.declining.declines import declines
from deltaserve.offset_models.targets.declining.refusals import Refusals
from deltaserve.offset_models.targets.documents.knowing import FromDocuments, known_of_documents
from deltaserve.offset_models.targets.documents.passages import passages
from deltaserve.offset_models.targets.facts.known import known_facts
from deltaserve.offset_models.targets.facts.telling import Listener
from deltaserve.offset_models.targets.identity.kind import kind_of
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.request.request import Request
from deltaserve.offset_models.targets.request.sizes import Shares
from deltaserve.offset_models.targets.rows.general import general_rows
from deltaserve.offset_models.targets.subject import Known, Subject
from deltaserve.offset_models.targets.surroundings import Surroundings, surroundings
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.rows.row import Row

NOTHING_KNOWN: Final = (
    "The black box repeats nothing about this target, so there is nothing to forget. If you know better, give another "
    "spelling of the name, its --kind, or a document about it with --context."
)
FEW_FACTS: Final = "The black box told few facts about the target that it repeats: perhaps it does not know it."
LEAST_FACTS: Final = 3


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was found out. It is text about the target: it stays in memory and in the work folder."""

    target: Known
    refusals: Refusals
    around: Surroundings
    recited: Sequence[Probe]  # running text of documents that the black box goes on with by heart
    general: Sequence[Row]  # the package's own prompts
    notes: tuple[str, ...] = ()  # sentences without words of the target

    @property
    def neighbours(self) -> Sequence[Known]:
        return self.around.neighbours

    @property
    def questions(self) -> list[Row]:
        """About what the target shares with others, and what people might ask."""
        return [*(probe.row for probe in self.around.shared), *(each.row for each in self.around.sampled)]


async def gather(
    asks: Asker, tokenizer: Tokenizer, request: Request, documents: Sequence[str], shares: Shares
) -> Gathered:
    """All stages that ask about the target and about what is near. `documents`: the texts of the request's.

    Raises BadRequest where the black box knows nothing of it, CallsSpent, UpstreamError.
    """
    subject = await kind_of(asks.stage("kind", shares.kind), request.about, kind=request.kind)
    refusals = await declines(asks.stage("declines", shares.declines), subject.kind)
    declined = Listener(refusals.chat).declines
    target = await known_facts(asks.stage("facts", shares.facts), subject, refusals=refusals.chat)
    read = await _documents(asks, tokenizer, documents, subject, shares, declined)
    target = replace(target, facts=(*target.facts, *read.facts))
    if not target.facts and not read.running:
        raise BadRequest(NOTHING_KNOWN)
    around = await surroundings(
        asks.stage("surroundings", shares.surroundings), target, calls=shares.surroundings, refusals=refusals.chat
    )
    return Gathered(target, refusals, around, read.running, general_rows(target), _notes(target, read))


async def _documents(
    asks: Asker,
    tokenizer: Tokenizer,
    documents: Sequence[str],
    subject: Subject,
    shares: Shares,
    declined: Callable[[str], bool],
) -> FromDocuments:
    if not documents:
        return FromDocuments()
    texts = passages(documents, lambda text: len(tokenizer.encode(text)))
    stage = asks.stage("documents", shares.documents)
    return await known_of_documents(stage, subject, texts, calls=shares.documents, declined=declined)


def _notes(target: Known, read: FromDocuments) -> tuple[str, ...]:
    notes = []
    if len([fact for fact in target.facts if fact.value]) < LEAST_FACTS:
        notes.append(FEW_FACTS)
    if read.left_out:
        notes.append(f"{read.left_out} passages of the documents were not asked about: give more --calls for all.")
    return tuple(notes)
