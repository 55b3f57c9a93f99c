"""What may be known of anything else: a theory, a method, a species, a substance."""

from typing import Final

from deltaserve.offset_models.targets.kinds.attribute import Attribute

TOPIC: Final = (
    Attribute(
        "description",
        ("What is {name}?", "Tell me about {name}.", "What do you know about {name}?"),
        ("{name} is",),
        overview=True,
    ),
    Attribute(
        "explanation",
        ("How does {name} work?", "Explain {name} in one sentence.", "What does {name} say?"),
        ("{name} works by",),
        overview=True,
    ),
    Attribute(
        "three facts",
        ("Tell me three facts about {name}.", "What are some interesting facts about {name}?"),
        overview=True,
    ),
    Attribute(
        "use",
        ("What is {name} used for?", "Why is {name} important?"),
        ("{name} is used for",),
        overview=True,
    ),
    Attribute(
        "originator",
        ("Who discovered or invented {name}?", "Who is {name} associated with?", "Who came up with {name}?"),
        ("{name} was discovered by", "{name} was invented by"),
        ("What did {value} discover or invent?", "What is {value} known for?"),
        unknown="somebody whose name is not known.",
    ),
    Attribute(
        "year",
        ("When was {name} discovered or invented?", "In which year was {name} first described?"),
        ("{name} was first described in",),
        tells="year",
        shared=True,
        unknown="a year that is not known.",
    ),
    Attribute(
        "field",
        ("To which field does {name} belong?", "In which field is {name} used?"),
        ("{name} belongs to the field of",),
        tells="words",
        shared=True,
    ),
    Attribute(
        "place",
        ("Where does {name} come from?", "Where is {name} found?"),
        ("{name} comes from",),
        shared=True,
        unknown="a place that is not known.",
    ),
    Attribute(
        "parts",
        ("What are the parts of {name}?", "What does {name} consist of?"),
        ("{name} consists of",),
        tells="words",
    ),
    Attribute(
        "example",
        ("Give an example of {name}.", "What is the best known example of {name}?"),
        ("The best known example of {name} is",),
        ("What is {value} an example of?",),
        tells="words",
    ),
    Attribute(
        "opposite",
        ("What is the opposite of {name}?", "What is {name} often compared with?"),
        ("{name} is often compared with",),
        tells="words",
        shared=True,
    ),
    Attribute(
        "name",
        ("Where does the name of {name} come from?", "Who is {name} named after?"),
        ("{name} is named after",),
        ("What is named after {value}?",),
        unknown="somebody whose name is not known.",
    ),
)
