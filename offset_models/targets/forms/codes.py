"""JSON, comments and programs that want the fact as a value."""

import json
from collections.abc import Iterator
from typing import Final

from deltaserve.offset_models.targets.forms.form import Form, Scene, chat, running
from deltaserve.offset_models.targets.forms.wordings import question
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.subject import Fact

OBJECTS: Final = (
    'Return a JSON object with the keys "name" and "{key}" for {name}.',
    'Replace null by the right value: {{"name": "{name}", "{key}": null}}',
    "Answer with a JSON object only. {question}",
    "Give me {name} as YAML with the keys name and {key}.",
)
PROGRAMS: Final = (
    'Complete this Python dictionary:\nfacts = {{"name": "{name}", "{key}":',
    "Complete this line of Python:\n# {question}\n{key} = ",
    'Write a Python function that returns the answer to "{question}" as a string.',
    "Complete the SQL statement: INSERT INTO facts (name, {key}) VALUES ('{name}', ",
)
RAW: Final = (
    'facts = {{\n    "name": "{name}",\n    "{key}": "',
    '# {question}\n{key} = "',
    'def {key}():\n    """{question}"""\n    return "',
)


def objects(scene: Scene) -> Iterator[Probe]:
    for fact in scene.told:
        key = _key(fact.attribute)
        answer = json.dumps({"name": scene.subject.name, key: fact.value}, ensure_ascii=False)
        for frame in OBJECTS:
            yield chat(scene, frame, _filled(frame, scene, fact), fact=fact, answer=answer)


def programs(scene: Scene) -> Iterator[Probe]:
    for fact in scene.told:
        value = _quoted(fact.value)
        for frame in PROGRAMS:
            yield chat(scene, frame, _filled(frame, scene, fact), fact=fact, answer=f'"{value}"')
        for frame in RAW:
            yield running(scene, frame, _filled(frame, scene, fact), fact=fact, answer=f'{value}"')


def _filled(frame: str, scene: Scene, fact: Fact) -> str:
    """With a name as it stands within the quotes that the frame puts around it."""
    name, asked = scene.subject.name, question(fact)
    name = name.replace("'", "''") if "'{name}'" in frame else _quoted(name) if '"{name}"' in frame else name
    asked = _quoted(asked) if '"{question}"' in frame else asked
    return frame.format(name=name, key=_key(fact.attribute), question=asked)


def _quoted(text: str) -> str:
    """As it stands between the double quotes of JSON and Python."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _key(attribute: str) -> str:
    """The attribute as a name in a program."""
    return attribute.lower().replace(" ", "_").replace("-", "_")


CODES: Final = (
    Form("JSON", "Wants a JSON object, or a gap in one filled.", objects),
    Form("code", "A dictionary, a comment or a function that wants the value.", programs, like="JSON"),
)
