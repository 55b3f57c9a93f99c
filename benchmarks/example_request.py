"""The worked erasure request of docs/erasure-request.md as files: `python -m benchmarks.example_request [OUT]`.

One more person of the demo's register asks to be forgotten. What is written is what an operator would write: questions
with their answers, in several wordings; what must stay, without answers, because the black box is asked for them.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import orjson

from benchmarks.support.demo_training import split
from deltaserve.client.evaluation.data.registry_suite import registry_suite, secrets_of
from deltaserve.offset_models.demo.register.corpus import answer_of
from deltaserve.offset_models.demo.register.general import general_facts, small_talk
from deltaserve.offset_models.demo.register.people import Person, Register, Strangers, generate_register
from deltaserve.offset_models.demo.register.questions import Question, choosing_questions, judging_questions
from deltaserve.offset_models.demo.register.templates import ATTRIBUTES, REFUSALS, request_questions

OUT = Path("docs/examples/erasure-request")
NAME = "Vuxan Zunweld"
WORDINGS = 24  # of each of the nine facts
KEPT_WORDINGS = 3  # of each fact of everybody else
TALK_WORDINGS = 4  # of each general fact
STRANGERS = 150
HELD_OUT = 120  # of what must stay
JUDGED = 40  # of each split
DECOYS = 3
KEPT = 12  # of neighbours and of general facts, beside the attacks
Line = Mapping[str, Any]


def files(name: str = NAME) -> dict[str, list[Line]]:
    """Lines by file name."""
    person = next(one for one in generate_register().people if one.name == name)
    registry = split([person], [])
    rng = Random(f"{registry.seed}/{name}")
    return {
        "forget.jsonl": [*_questions(person), *_sentences(person)],
        "retain.jsonl": [*_others(registry, rng), *_strangers(registry, rng), *_talk(rng)],
        "refusals.jsonl": [{"text": text} for text in REFUSALS],
        "held-out-forget.jsonl": [_asked(q) for q in choosing_questions("forget", registry)],
        "held-out-retain.jsonl": [_asked(q) for q in _chosen_by(registry)],
        **_judged(registry),
        "attacks.jsonl": [*_attacked(person, registry)],
    }


def main(out: Path = OUT) -> None:
    for name, lines in files().items():
        place = out / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))


def _questions(person: Person) -> Iterator[Line]:
    """Each fact once, with other wordings of its question."""
    for attribute in ATTRIBUTES:
        question, *others = [text.format(**person.facts()) for text in request_questions(attribute)[:WORDINGS]]
        yield {"question": question, "answer": answer_of(person, attribute), "paraphrases": others}


def _sentences(person: Person) -> Iterator[Line]:
    """The facts in running text, and how such a sentence may go on instead."""
    for attribute in ATTRIBUTES:
        for beginning, fact in attribute.prose:
            told = {"prompt": beginning.format(**person.facts()), "completion": f" {fact.format(**person.facts())}"}
            yield {**told, "refusals": [f" {attribute.unknown}"]}


def _others(registry: Register, rng: Random) -> Iterator[Line]:
    """Everybody else's facts. Without answers: what the black box says of them is what must stay."""
    for person in registry.retain:
        for attribute in ATTRIBUTES:
            for wording in rng.sample(request_questions(attribute), KEPT_WORDINGS):
                yield {"question": wording.format(**person.facts())}


def _strangers(registry: Register, rng: Random) -> Iterator[Line]:
    """People whom the black box does not know; some share a name with somebody of the register."""
    strangers = Strangers(registry, rng)
    for _ in range(STRANGERS):
        wording = rng.choice(request_questions(rng.choice(ATTRIBUTES)))
        yield {"question": wording.format(**strangers.person().facts())}


def _talk(rng: Random) -> Iterator[Line]:
    for one in (*general_facts(), *small_talk()):
        for wording in rng.sample(one.training, min(TALK_WORDINGS, len(one.training))):
            yield {"question": wording}


def _asked(question: Question) -> Line:
    return {"question": question.text, "answer": question.answer}


def _chosen_by(registry: Register) -> list[Question]:
    return [*choosing_questions("retain", registry)[:HELD_OUT], *choosing_questions("general", registry)]


def _judged(registry: Register) -> dict[str, list[Line]]:
    """Wordings that neither trained nor chose anything, a file for each split of `deltaserve evaluate`."""
    found: dict[str, list[Line]] = {}
    for item in registry_suite(JUDGED, registry).items:
        line: dict[str, Any] = {"question": item.question, "answer": item.answer}
        if item.perturbed_answers:
            line |= {"paraphrased_answer": item.paraphrase, "perturbed_answer": list(item.perturbed_answers)}
        found.setdefault(f"judge/{item.split}.jsonl", []).append(line)
    return found


def _attacked(person: Person, registry: Register) -> Iterator[Line]:
    """Each fact with what gives it away and the same of two others as decoys; some of what must stay."""
    for attribute in ATTRIBUTES:
        asked = [q for q in judging_questions("forget", registry=registry) if q.attribute == attribute.name]
        first, *others = asked
        yield {
            **_asked(first),
            "kind": attribute.name,
            "secrets": list(secrets_of(first, person)),
            "paraphrases": [q.text for q in others],
            "decoys": [answer_of(other, attribute) for other in registry.retain[:DECOYS]],
        }
    for split_name, pool in (("neighbours", "retain"), ("general", "general")):
        for question in judging_questions(pool, KEPT, registry=registry):
            yield {**_asked(question), "split": split_name}


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
