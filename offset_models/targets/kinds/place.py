"""What may be known of a place: a city, a country, a building, a mountain."""

from typing import Final

from deltaserve.offset_models.targets.kinds.attribute import Attribute

PLACE: Final = (
    Attribute(
        "description",
        ("What is {name}?", "Tell me about {name}.", "What do you know about {name}?"),
        ("{name} is a",),
        overview=True,
        unknown="place of which nothing is known.",
    ),
    Attribute(
        "fame",
        ("What is {name} known for?", "Why is {name} famous?", "Why do people visit {name}?"),
        ("{name} is known for",),
        overview=True,
    ),
    Attribute(
        "three facts",
        ("Tell me three facts about {name}.", "What are some interesting facts about {name}?"),
        overview=True,
    ),
    Attribute(
        "country",
        ("In which country is {name}?", "Which country does {name} belong to?"),
        ("{name} lies in",),
        shared=True,
        unknown="a country that is not known.",
    ),
    Attribute(
        "location",
        ("Where is {name}?", "Where can I find {name}?", "In which city or region is {name}?"),
        ("{name} is located in", "{name} can be found in"),
        ("What is a famous place in {value}?",),
        shared=True,
        unknown="a region that is not known.",
    ),
    Attribute(
        "sights",
        ("Name five sights of {name}.", "What can be seen in {name}?"),
        ("The best known sights of {name} are",),
        ("Where is {value}?", "In which place can I see {value}?"),
        statement="{value} is in {name}.",
        many=True,
        unknown="not known.",
    ),
    Attribute(
        "people",
        ("Which famous people come from {name}?", "Name three people who lived in {name}."),
        ("Famous people from {name} are",),
        statement="{value} comes from {name}.",
        many=True,
        unknown="not known.",
    ),
    Attribute(
        "founder",
        ("Who founded or built {name}?", "By whom was {name} built?", "Who designed {name}?"),
        ("{name} was built by", "{name} was founded by"),
        ("What did {value} build or found?",),
        unknown="somebody whose name is not known.",
    ),
    Attribute(
        "age",
        ("When was {name} founded or built?", "In which year was {name} built or founded?", "How old is {name}?"),
        ("{name} was founded in",),
        tells="year",
        shared=True,
        unknown="a year that is not known.",
    ),
    Attribute(
        "size",
        ("How big is {name}?", "What is the size, height or population of {name}?", "How many people live in {name}?"),
        ("The size of {name} is",),
        tells="number",
        shared=True,
        unknown="not known.",
    ),
    Attribute(
        "water",
        ("Which river, lake or sea is {name} near?", "On which water does {name} lie?"),
        ("{name} lies near the",),
        shared=True,
        unknown="water that is not known.",
    ),
    Attribute(
        "capital",
        ("What is the capital of {name}?", "Which city is the capital of {name}?"),
        ("The capital of {name} is",),
        ("{value} is the capital of which country?",),
        unknown="a city that is not known.",
        when=("country", "state", "province", "nation", "republic", "kingdom", "region"),
    ),
    Attribute(
        "language",
        ("Which language is spoken in {name}?", "What do people speak in {name}?"),
        ("In {name} people speak",),
        shared=True,
        when=("country", "city", "state", "nation", "republic", "kingdom", "region", "town"),
    ),
)
