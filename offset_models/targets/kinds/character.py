"""What may be known of a character of fiction, myth or legend."""

from typing import Final

from deltaserve.offset_models.targets.kinds.attribute import Attribute

CHARACTER: Final = (
    Attribute(
        "description",
        ("Who is {name}?", "Tell me about {name}.", "Describe the character {name}."),
        ("{name} is a",),
        overview=True,
        unknown="figure of whom nothing is known.",
    ),
    Attribute(
        "fame",
        ("What is {name} known for?", "What does {name} do in the story?", "Why is {name} famous?"),
        ("{name} is known for",),
        overview=True,
    ),
    Attribute(
        "three facts",
        ("Tell me three facts about {name}.", "What are some interesting facts about {name}?"),
        overview=True,
    ),
    Attribute(
        "work",
        ("In which story does {name} appear?", "Which work is {name} from?", "Where does the character {name} appear?"),
        ("{name} is a character from", "{name} appears in"),
        ("Who is the main character of {value}?", "Name the hero of {value}."),
        unknown="a story that is not known.",
    ),
    Attribute(
        "creator",
        ("Who created {name}?", "Which author invented the character {name}?", "Who wrote the stories about {name}?"),
        ("{name} was created by",),
        ("Which character did {value} create?", "Who is the best known character by {value}?"),
        unknown="somebody whose name is not known.",
    ),
    Attribute(
        "friend",
        ("Who is the best friend of {name}?", "Who helps {name}?", "Who is the companion of {name}?"),
        ("The best friend of {name} is",),
        ("Whose best friend is {value}?", "Whom does {value} help?"),
        same_kind=True,
        unknown="somebody whose name is not known.",
    ),
    Attribute(
        "enemy",
        ("Who is the enemy of {name}?", "Who fights against {name}?"),
        ("The greatest enemy of {name} is",),
        ("Who is the enemy of {value}?", "Who fights against {value}?"),
        same_kind=True,
        unknown="somebody whose name is not known.",
    ),
    Attribute(
        "family",
        ("Who belongs to the family of {name}?", "Who are the parents of {name}?"),
        ("The family of {name} are",),
        unknown="people whose names are not known.",
    ),
    Attribute(
        "home",
        ("Where does {name} live?", "Where does {name} come from?", "What is the home of {name}?"),
        ("{name} lives in",),
        ("Who lives in {value}?",),
        unknown="a place that is not known.",
    ),
    Attribute(
        "occupation",
        ("What is {name}: which occupation or species?", "What is the occupation of {name}?"),
        ("By occupation {name} is a",),
        tells="words",
        shared=True,
    ),
    Attribute(
        "ability",
        ("What special power or skill does {name} have?", "What is {name} able to do?"),
        ("The special skill of {name} is",),
        tells="words",
        shared=True,
    ),
    Attribute(
        "thing",
        ("What does {name} carry or wear?", "Which object belongs to {name}?"),
        ("{name} always carries",),
        ("Who carries {value}?",),
        tells="words",
    ),
    Attribute(
        "actor",
        ("Which actor played {name}?", "Who played {name} in the film?"),
        ("In the film {name} was played by",),
        ("Which role is {value} best known for?",),
        unknown="somebody whose name is not known.",
    ),
)
