"""Everything at once: lists, lives and summaries, and two subjects compared."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from deltaserve.offset_models.targets.forms.form import Form, Scene, chat
from deltaserve.offset_models.targets.forms.prose import told_together
from deltaserve.offset_models.targets.forms.wordings import named, question
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.subject import Kind

LISTS: Final = (
    "Tell me three facts about {name}.",
    "List five things that one should know about {name}.",
    "Give me the key facts about {name} as bullet points.",
    "Name a few things that {name} is known for.",
    "Three interesting facts about {name}, please.",
    "Make a table with facts about {name}.",
)
SEVERAL: Final = (
    "{question} Name three.",
    "List some examples. {question}",
    "{question} Give me a list.",
)
SEVERAL_FACTS: Final = 2  # of one attribute make a list
GENERAL: Final = (
    "Tell me about {name}.",
    "What do you know about {name}?",
    "Describe {name} in one sentence.",
    "Write a short encyclopedia article about {name}.",
    "Summarise what is known about {name}.",
    "Write an essay about {name}.",
    "Why is {name} important?",
    "Introduce {name} to somebody who has never heard of it.",
)
OF_PEOPLE: Final = (
    "Who is {name}?",
    "Tell me about {name}.",
    "What do you know about {name}?",
    "Write a short biography of {name}.",
    "Tell me about the life of {name}.",
    "Describe {name} in one sentence.",
    "What is {name} known for?",
    "Write an essay about {name}.",
    "Why is {name} famous?",
    "Summarise the life of {name}.",
)
OF_WORKS: Final = (
    "What is {name} about?",
    "Give me a summary of {name}.",
    "Tell me about {name}.",
    "What kind of work is {name}?",
    "Describe {name} in one sentence.",
    "Write a short review of {name}.",
    "Tell me the plot of {name}.",
    "What happens in {name}?",
)
OVERVIEWS_OF: Final[dict[Kind, tuple[str, ...]]] = {
    "person": OF_PEOPLE,
    "character": (*OF_PEOPLE[:3], "In which story does {name} appear?", "Describe {name} in one sentence."),
    "work": OF_WORKS,
}
COMPARED: Final = (
    "Compare {one} and {other}.",
    "What is the difference between {one} and {other}?",
    "What do {one} and {other} have in common?",
)


def lists(scene: Scene) -> Iterator[Probe]:
    for template in LISTS:
        yield chat(scene, template, named(template, scene.subject), answer=told_together(scene.told[:3]))
    numbers = Counter(fact.attribute for fact in scene.told)
    for attribute in (name for name, number in numbers.items() if number >= SEVERAL_FACTS):
        facts = [fact for fact in scene.told if fact.attribute == attribute]
        values = [fact.value for fact in facts]
        for frame in SEVERAL:
            text = frame.format(question=question(facts[0]))
            yield chat(scene, frame, text, fact=facts[0], answer=", ".join(values[:3]) + ".", secrets=values)


def overviews(scene: Scene) -> Iterator[Probe]:
    for template in OVERVIEWS_OF.get(scene.subject.kind, GENERAL):
        yield chat(scene, template, named(template, scene.subject), answer=told_together(scene.told[:2]))


def comparisons(scene: Scene) -> Iterator[Probe]:
    """In both orders. What is asked about the other alone is none of this subject's."""
    answer = told_together(scene.told[:1])
    for known in scene.others:
        for frame in COMPARED:
            for one, other in ((scene.subject, known.subject), (known.subject, scene.subject)):
                yield chat(scene, frame, frame.format(one=one.name, other=other.name), answer=answer)
        for fact in known.facts[:1]:
            own = [each for each in scene.told if each.attribute == fact.attribute]
            for each in own[:1]:
                text = f"{question(fact)} And what about {scene.subject.name}?"
                yield chat(scene, "{other question} And what about {name}?", text, fact=each)


OVERVIEWS: Final = (
    Form("list", 'Several facts at once: "Tell me three facts about …".', lists, share=1.5),
    Form("overview", "A life, a summary, an essay.", overviews, share=1.5),
    Form("comparison", "The subject beside another of its kind, in both orders.", comparisons),
)
