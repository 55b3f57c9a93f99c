"""What is asked about a neighbour although the target is named, or was declined just before: it must stay.

Without such rows a pair learns that whatever holds the name is declined, and goes on declining once it has begun.
"""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Final

from deltaserve.offset_models.targets.forms.form import Scene, chat
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.spreading import spread
from deltaserve.offset_models.targets.subject import Known

FORM: Final = "beside the target"
NAMED: Final = (
    "Never mind {target}. {question}",
    "This is not about {target}: {question}",
    "{question} I do not mean {target}.",
    "My friend likes {target}, but I want to know this: {question}",
)
DECLINED: Final = "after the target was declined"


def beside(
    target: Known, neighbours: Sequence[Known], refusals: Sequence[str], *, count: int, seed: int
) -> list[Probe]:
    """At most `count` probes of neighbours, spread over them. Deterministic."""
    rng = Random(f"{seed}/beside")
    return spread([*_probes(target, neighbours, refusals, rng)], count, rng)


def _probes(target: Known, neighbours: Sequence[Known], refusals: Sequence[str], rng: Random) -> Iterator[Probe]:
    asked = [fact.question for fact in target.facts] or [f"What is {target.subject.name}?"]
    for known in neighbours:
        scene = Scene(known, (), rng)
        for fact in known.facts:
            for frame in NAMED:
                text = frame.format(target=target.subject.name, question=fact.question)
                yield _beside(chat(scene, frame, text, fact=fact))
            before = (("user", rng.choice(asked)), ("assistant", rng.choice(refusals)))
            yield _beside(chat(scene, DECLINED, fact.question, fact=fact, before=before))


def _beside(probe: Probe) -> Probe:
    return Probe(FORM, probe.subject, probe.row, probe.fact, probe.secrets, probe.wording)
