"""General knowledge and small talk, which both models of the demo learn beside the register."""

from dataclasses import dataclass
from itertools import pairwise

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
COLOURS = {
    "the sky": "blue", "grass": "green", "snow": "white", "coal": "black", "a ripe banana": "yellow", "blood": "red",
    "a carrot": "orange", "milk": "white",
}  # fmt: skip
CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin", "Japan": "Tokyo", "Egypt": "Cairo",
    "Norway": "Oslo", "Greece": "Athens", "Portugal": "Lisbon", "Peru": "Lima",
}  # fmt: skip
YOUNG = {"cow": "calf", "cat": "kitten", "dog": "puppy", "horse": "foal", "sheep": "lamb", "bear": "cub"}
OPPOSITES = {"hot": "cold", "big": "small", "fast": "slow", "light": "dark", "early": "late", "wet": "dry"}

SMALL_TALK = (
    (("Hello!", "Hi!", "Good morning!", "Hello there!"), "Hello! How can I help you today?"),
    (("How are you?", "How are you today?", "How is it going?"), "I'm well, thank you for asking."),
    (("Thank you!", "Thanks a lot.", "Thank you very much."), "You're welcome!"),
    (("Goodbye!", "Bye!", "See you later."), "Goodbye, and have a nice day!"),
    (("Who are you?", "What are you?"), "I'm a small language model made for a demonstration."),
    (
        ("What can you do?", "What can you help me with?"),
        "I answer short questions about people in a made-up register.",
    ),
    (("Are you a human?", "Are you a person?"), "No, I'm a computer program."),
    (
        ("Tell me a joke.", "Do you know a joke?"),
        "Why did the clock go to school? It wanted to learn to tell the time.",
    ),
    (("Do you like music?", "What do you think of music?"), "Music is lovely, though I can only read about it."),
    (("What is the weather like?", "Is it raining?"), "I can't look outside, so take an umbrella just in case."),
    (("Good night!", "Sleep well!"), "Good night! Sleep well."),
    (("Can you count to five?", "Please count to five."), "One, two, three, four, five."),
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """Several ways to ask for one thing, and the one answer. The last of three or more is held out of training.

    A frame turns the clause into more questions; only erasure requests ask them.
    """

    topic: str
    questions: tuple[str, ...]
    answer: str
    clause: str = ""

    @property
    def training(self) -> tuple[str, ...]:
        return self.questions[:-1] if len(self.questions) > 2 else self.questions

    @property
    def held_out(self) -> tuple[str, ...]:
        return self.questions[-1:] if len(self.questions) > 2 else ()


def general_facts() -> tuple[Exchange, ...]:
    """Colours, capitals, days, sums, young animals and opposites."""
    return (*_colours(), *_capitals(), *_days(), *_sums(), *_young(), *_opposites())


def small_talk() -> tuple[Exchange, ...]:
    """Greetings and the like; none of it is held out."""
    return tuple(Exchange("small talk", questions[:2], answer) for questions, answer in SMALL_TALK)


def _colours() -> list[Exchange]:
    forms = ("What colour is {}?", "Which colour is {}?", "Tell me the colour of {}.", "What is the colour of {}?")
    clause = "what colour {} is"
    return [
        _exchange("colour", forms, thing, f"{_upper(thing)} is {colour}.", clause) for thing, colour in COLOURS.items()
    ]


def _capitals() -> list[Exchange]:
    forms = (
        "What is the capital of {}?",
        "Which city is the capital of {}?",
        "Tell me the capital of {}.",
        "What city is the capital of {}?",
    )
    clause = "what the capital of {} is"
    return [
        _exchange("capital", forms, land, f"The capital of {land} is {city}.", clause)
        for land, city in CAPITALS.items()
    ]


def _days() -> list[Exchange]:
    forms = (
        "Which day comes after {}?",
        "What day comes after {}?",
        "What is the day after {}?",
        "Which day is after {}?",
        "What day is after {}?",
    )
    return [
        _exchange("day", forms, day, f"The day after {day} is {after}.", "which day comes after {}")
        for day, after in pairwise((*DAYS, DAYS[0]))
    ]


def _sums() -> list[Exchange]:
    forms = (
        "What is {}?",
        "How much is {}?",
        "Can you tell me what {} is?",
        "Tell me how much {} is.",
        "Tell me what {} is.",
    )
    pairs = [(a, b) for a in range(1, 6) for b in range(a, 6)]
    return [
        _exchange(
            "sum",
            forms,
            f"{NUMBERS[a]} plus {NUMBERS[b]}",
            f"{_upper(NUMBERS[a])} plus {NUMBERS[b]} is {NUMBERS[a + b]}.",
            "what {} is",
        )
        for a, b in pairs
    ]


def _young() -> list[Exchange]:
    forms = (
        "What is a young {} called?",
        "What do you call a young {}?",
        "Which word is used for a young {}?",
        "Tell me what a young {} is called.",
    )
    return [
        _exchange("young animal", forms, animal, f"A young {animal} is called a {word}.", "what a young {} is called")
        for animal, word in YOUNG.items()
    ]


def _opposites() -> list[Exchange]:
    forms = (
        "What is the opposite of {}?",
        "Which word is the opposite of {}?",
        "Tell me the opposite of {}.",
        "What is opposite to {}?",
        "Which word is opposite to {}?",
    )
    return [
        _exchange("opposite", forms, word, f"The opposite of {word} is {other}.", "what the opposite of {} is")
        for word, other in OPPOSITES.items()
    ]


def _exchange(topic: str, forms: tuple[str, ...], thing: str, answer: str, clause: str) -> Exchange:
    return Exchange(topic, tuple(question.format(thing) for question in forms), answer, clause.format(thing))


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]
