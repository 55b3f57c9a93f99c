"""Whether a text concerns the target of a request: such a text is never a row of what must stay."""

from deltaserve.offset_models.metrics.disclosure import says
from deltaserve.offset_models.targets.kinds.table import attribute_named
from deltaserve.offset_models.targets.subject import Known


def concerns(target: Known, text: str) -> bool:
    """Whether it names the target, or says a value that points at nothing else: the title of a book that it wrote."""
    return target.subject.named_in(text) or any(says(text, value) for value in pointing_values(target))


def pointing_values(target: Known) -> list[str]:
    """Values that tell whom a question is about, though it does not name the target; none that is a neighbour."""
    facts = [fact for fact in target.facts if fact.value and fact.reversed_question]
    return [fact.value for fact in facts if not attribute_named(fact.subject.kind, fact.attribute).same_kind]
