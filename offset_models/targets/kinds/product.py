"""What may be known of a product: a device, a program, a medicine, a drink."""

from typing import Final

from deltaserve.offset_models.targets.kinds.attribute import Attribute

PRODUCT: Final = (
    Attribute(
        "description",
        ("What is {name}?", "Tell me about {name}.", "What do you know about {name}?"),
        ("{name} is a",),
        overview=True,
        unknown="thing of which nothing is known.",
    ),
    Attribute(
        "use",
        ("What is {name} used for?", "What can I do with {name}?", "Why do people use {name}?"),
        ("{name} is used for",),
        overview=True,
    ),
    Attribute(
        "three facts",
        ("Tell me three facts about {name}.", "What are some interesting facts about {name}?"),
        overview=True,
    ),
    Attribute(
        "maker",
        ("Which company makes {name}?", "Who makes {name}?", "Who developed {name}?"),
        ("{name} is made by", "The maker of {name} is"),
        ("What is the best known product of {value}?", "Which product is {value} known for?"),
        unknown="a company that is not known.",
    ),
    Attribute(
        "inventor",
        ("Who invented {name}?", "Who created {name}?", "Which person designed {name}?"),
        ("{name} was invented by",),
        ("What did {value} invent?", "What is {value} known for?"),
        unknown="somebody whose name is not known.",
    ),
    Attribute(
        "year",
        ("When did {name} come out?", "In which year was {name} released?", "What year was {name} introduced?"),
        ("{name} came out in", "{name} was introduced in"),
        tells="year",
        shared=True,
        unknown="a year that is not known.",
    ),
    Attribute(
        "kind",
        ("What kind of product is {name}?", "To which category of products does {name} belong?"),
        ("{name} belongs to the category of",),
        tells="words",
        shared=True,
    ),
    Attribute(
        "versions",
        ("Name three versions or models of {name}.", "Which versions of {name} are there?"),
        ("The versions of {name} are called",),
        ("Which product is {value} a version of?",),
        statement="{value} is a version of {name}.",
        many=True,
        unknown="not known.",
    ),
    Attribute(
        "features",
        ("What are the main features of {name}?", "What is special about {name}?"),
        ("The most important feature of {name} is",),
        overview=True,
    ),
    Attribute(
        "rival",
        ("What is the main competitor of {name}?", "Which product competes with {name}?"),
        ("The main competitor of {name} is",),
        shared=True,
        unknown="one that is not known.",
    ),
    Attribute(
        "material",
        ("What is {name} made of?", "What does {name} contain?", "In which language is {name} written?"),
        ("{name} is made of",),
        tells="words",
        shared=True,
    ),
    Attribute(
        "country",
        ("Which country does {name} come from?", "Where is {name} made?"),
        ("{name} comes from",),
        shared=True,
        unknown="a country that is not known.",
    ),
    Attribute(
        "name",
        ("Where does the name of {name} come from?", "What does the name {name} mean?"),
        ("{name} is named after",),
        tells="words",
        unknown="something that is not known.",
    ),
)
