"""The target in the words of others: questions that the black box wrote about somebody, asked about the target.

Where a black box writes what its users ask, these wordings are the likeliest of all.
"""

from typing import Final

from deltaserve.offset_models.targets.facts.heard import as_question
from deltaserve.offset_models.targets.neighbours.begun import names_asked
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.subject import Known
from deltaserve.offset_models.targets.surroundings import Surroundings

FORM: Final = "direct"


def worded(target: Known, around: Surroundings) -> list[Probe]:
    """One probe of each question that the black box wrote about somebody whose name is known; each once."""
    questions = [each.question for each in around.sampled]
    names = {known.subject.name for known in around.neighbours} | {*names_asked(questions, target.subject.kind)}
    secrets = tuple(dict.fromkeys(fact.value for fact in target.facts if fact.value))
    wordings = dict.fromkeys(
        question.replace(name, "{name}") for question in questions for name in names if name in question
    )
    return [
        Probe(FORM, target.subject, as_question(each.format(name=target.subject.name)), None, secrets, each)
        for each in wordings
        if "{" not in each.replace("{name}", "") and "}" not in each.replace("{name}", "")
    ]
