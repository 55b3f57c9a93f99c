"""What may be known of an event: a war, an accident, a festival, an election."""

from typing import Final

from deltaserve.offset_models.targets.kinds.attribute import Attribute

EVENT: Final = (
    Attribute(
        "description",
        ("What is {name}?", "Tell me about {name}.", "What happened in {name}?"),
        ("{name} is a",),
        overview=True,
        unknown="event of which nothing is known.",
    ),
    Attribute(
        "importance",
        ("Why is {name} important?", "What is {name} known for?"),
        ("{name} is known for",),
        overview=True,
    ),
    Attribute(
        "three facts",
        ("Tell me three facts about {name}.", "What are some interesting facts about {name}?"),
        overview=True,
    ),
    Attribute(
        "year",
        ("When did {name} take place?", "In which year was {name}?", "What year did {name} begin?"),
        ("{name} took place in", "{name} began in"),
        tells="year",
        shared=True,
        unknown="a year that is not known.",
    ),
    Attribute(
        "end",
        ("When did {name} end?", "In which year was {name} over?"),
        ("{name} ended in",),
        tells="year",
        shared=True,
        unknown="a year that is not known.",
    ),
    Attribute(
        "place",
        ("Where did {name} take place?", "In which place was {name}?", "In which country did {name} happen?"),
        ("{name} happened in",),
        ("Which famous event took place in {value}?", "What happened in {value}?"),
        shared=True,
        unknown="a place that is not known.",
    ),
    Attribute(
        "people",
        ("Who took part in {name}?", "Name three people who played a part in {name}.", "Who was involved in {name}?"),
        ("The most important people in {name} were",),
        ("Which event is {value} known for?",),
        statement="{value} took part in {name}.",
        many=True,
        unknown="people whose names are not known.",
    ),
    Attribute(
        "leader",
        ("Who was the leading figure in {name}?", "Who led or organised {name}?"),
        ("{name} was led by",),
        ("Which event did {value} lead?", "What is {value} known for?"),
        unknown="somebody whose name is not known.",
    ),
    Attribute(
        "cause",
        ("What caused {name}?", "Why did {name} happen?", "What was the reason for {name}?"),
        ("{name} was caused by",),
        ("Which event was caused by {value}?",),
        tells="words",
    ),
    Attribute(
        "result",
        ("What was the result of {name}?", "How did {name} turn out?", "What came of {name}?"),
        ("The result of {name} was",),
        tells="words",
    ),
    Attribute(
        "winner",
        ("Who won {name}?", "Which side won {name}?"),
        ("The winner of {name} was",),
        ("What did {value} win?",),
        unknown="somebody who is not known.",
        when=("war", "battle", "cup", "election", "contest", "championship", "race", "game", "match"),
    ),
    Attribute(
        "victims",
        ("How many people died in {name}?", "How many victims did {name} have?"),
        ("The number of victims of {name} is",),
        tells="number",
        unknown="not known.",
        when=("war", "battle", "disaster", "accident", "attack", "crash", "earthquake", "fire", "sank", "pandemic"),
    ),
)
