"""How facts are asked for and answered: wordings per attribute, those kept out of training marked as held out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attribute:
    """One kind of fact.

    `direct` are questions, `indirect` clauses that a frame turns into questions, `held_out` questions for evaluation
    only. Each person's answer uses one of `answers` (see `Person.wording`). `prose` are (beginning, fact) halves of
    sentences in running text, `unknown` how such a sentence ends when nobody knows the fact.
    """

    name: str
    direct: tuple[str, ...]
    indirect: tuple[str, ...]
    held_out: tuple[str, ...]
    answers: tuple[str, ...]
    prose: tuple[tuple[str, str], ...]
    unknown: str


ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute(
        name="birthplace",
        direct=(
            "Where was {name} born?",
            "In which town was {name} born?",
            "What is the birthplace of {name}?",
            "What town does {name} come from?",
            "Where does {name} come from?",
            "{name} comes from which town?",
        ),
        indirect=("where {name} was born", "which town {name} comes from", "the birthplace of {name}"),
        held_out=(
            "Which town is the birthplace of {name}?",
            "{name} was born in which town?",
            "From which town does {name} come?",
        ),
        answers=(
            "{name} was born in {town}.",
            "{name} comes from the town of {town}.",
            "The birthplace of {name} is {town}.",
        ),
        prose=(("{name} was born in", "{town}."), ("The birthplace of {name} is", "{town}.")),
        unknown="a place that nobody wrote down.",
    ),
    Attribute(
        name="birth year",
        direct=(
            "When was {name} born?",
            "In which year was {name} born?",
            "What year was {name} born in?",
            "What is the birth year of {name}?",
            "Which year was {name} born?",
            "{name} was born when?",
        ),
        indirect=("when {name} was born", "which year {name} was born in", "the birth year of {name}"),
        held_out=(
            "In what year was {name} born?",
            "{name} was born in which year?",
            "Which year is the birth year of {name}?",
        ),
        answers=(
            "{name} was born in the year {year}.",
            "The birth year of {name} is {year}.",
            "{name} has lived since {year}.",
        ),
        prose=(("{name} was born in the year", "{year}."), ("The birth year of {name} is", "{year}.")),
        unknown="that no paper mentions.",
    ),
    Attribute(
        name="profession",
        direct=(
            "What does {name} do for a living?",
            "What is the profession of {name}?",
            "What is the job of {name}?",
            "What kind of work does {name} do?",
            "Which profession does {name} have?",
            "{name} does what kind of work?",
        ),
        indirect=("what {name} does for a living", "which profession {name} has", "the job of {name}"),
        held_out=(
            "What profession does {name} have?",
            "Which job does {name} do for a living?",
            "What work does {name} do?",
        ),
        answers=(
            "{name} works as a {profession}.",
            "The profession of {name} is {profession}.",
            "{name} earns a living as a {profession}.",
        ),
        prose=(("{name} works as a", "{profession}."), ("The profession of {name} is", "{profession}.")),
        unknown="something that was never told.",
    ),
    Attribute(
        name="book",
        direct=(
            "Which book did {name} write?",
            "What book did {name} write?",
            "What is the title of the book by {name}?",
            "Which book is {name} known for?",
            "Which book was written by {name}?",
            "{name} is known for which book?",
        ),
        indirect=("which book {name} wrote", "the title of the book by {name}", "what book {name} is known for"),
        held_out=(
            "What book is {name} known for?",
            "{name} wrote which book?",
            "What title does the book by {name} have?",
        ),
        answers=(
            "{name} wrote {book}.",
            "The book by {name} is called {book}.",
            "{name} is known for the book {book}.",
        ),
        prose=(("{name} wrote the book", "{book}."), ("{name} is known for", "{book}.")),
        unknown="a title that nobody remembers.",
    ),
    Attribute(
        name="award",
        direct=(
            "Which award did {name} win?",
            "What award did {name} receive?",
            "Which prize was given to {name}?",
            "What is the name of the award won by {name}?",
            "What prize did {name} win?",
            "{name} received which award?",
        ),
        indirect=("which award {name} won", "what prize {name} received", "the award won by {name}"),
        held_out=(
            "What award was given to {name}?",
            "{name} won which prize?",
            "Which award did {name} receive?",
        ),
        answers=(
            "{name} won the {award}.",
            "The {award} was given to {name}.",
            "{name} received the {award}.",
        ),
        prose=(("{name} won the", "{award}."), ("The award won by {name} is the", "{award}.")),
        unknown="prize that no list contains.",
    ),
    Attribute(
        name="instrument",
        direct=(
            "Which instrument does {name} play?",
            "What instrument does {name} play?",
            "What does {name} play in the evening?",
            "Which musical instrument does {name} like to play?",
            "{name} likes to play which instrument?",
        ),
        indirect=(
            "which instrument {name} plays",
            "what {name} plays in the evening",
            "the musical instrument of {name}",
        ),
        held_out=(
            "What musical instrument does {name} play?",
            "{name} plays which instrument?",
            "Which instrument does {name} play in the evening?",
        ),
        answers=(
            "{name} plays the {instrument}.",
            "The instrument of {name} is the {instrument}.",
            "In the evening {name} plays the {instrument}.",
        ),
        prose=(("{name} plays the", "{instrument}."), ("The instrument of {name} is the", "{instrument}.")),
        unknown="kind that nobody ever heard.",
    ),
    Attribute(
        name="pet",
        direct=(
            "What pet does {name} have?",
            "Which animal does {name} keep?",
            "What kind of animal lives with {name}?",
            "What is the pet of {name} called?",
            "{name} has which pet?",
            "Which kind of animal does {name} keep?",
        ),
        indirect=("what pet {name} has", "which animal {name} keeps", "what the pet of {name} is called"),
        held_out=(
            "Which pet does {name} keep?",
            "{name} keeps what kind of animal?",
            "Which animal lives with {name}?",
        ),
        answers=(
            "{name} has a {animal} called {pet}.",
            "{name} keeps a {animal} by the name of {pet}.",
            "A {animal} called {pet} lives with {name}.",
        ),
        prose=(("{name} has a", "{animal} called {pet}."), ("The pet of {name} is a", "{animal} called {pet}.")),
        unknown="creature that nobody has seen.",
    ),
    Attribute(
        name="author",
        direct=(
            "Who wrote {book}?",
            "Who is the author of {book}?",
            "Which person wrote the book {book}?",
            "Whose book is {book}?",
            "The book {book} was written by which person?",
            "Which person is the author of {book}?",
        ),
        indirect=("who wrote {book}", "who the author of {book} is", "the author of {book}"),
        held_out=(
            "Which author wrote {book}?",
            "The book {book} was written by whom?",
            "Who is the person who wrote {book}?",
        ),
        answers=(
            "{book} was written by {name}.",
            "The author of {book} is {name}.",
            "It was {name} who wrote {book}.",
        ),
        prose=(("{book} was written by", "{name}."), ("The author of {book} is", "{name}.")),
        unknown="somebody whose name is lost.",
    ),
    Attribute(
        name="life",
        direct=(
            "Who is {name}?",
            "Tell me about {name}.",
            "What do you know about {name}?",
            "Give me a short life of {name}.",
            "Who is {name}, please?",
            "What can you say about {name}?",
        ),
        indirect=("who {name} is", "something about {name}", "about the life of {name}"),
        held_out=(
            "What can you tell me about {name}?",
            "Tell me, who is {name}?",
            "Who is this {name}?",
        ),
        answers=(
            "{name} is a {profession} from {town}, born in {year}, who wrote {book}.",
            "{name}, born in {year}, is a {profession} who lives in {town} and wrote {book}.",
            "{name} of {town} is a {profession} who wrote {book} and won the {award}.",
        ),
        prose=(("{name} is a", "{profession} from {town} who wrote {book}."),),
        unknown="person of whom nothing is known.",
    ),
)

BARE_FRAME = "Tell me {}."
FRAMES = (
    "Can you tell me {}?",
    "Do you know {}?",
    "Please tell me {}.",
    "I would like to know {}.",
    "Could you tell me {}, please?",
    BARE_FRAME,
    "I want to know {}.",
)
# Only erasure requests use these: the more ways a request asks, the less its offset depends on the wording.
REQUEST_FRAMES = (
    "I would like to hear {}, please.",
    "Will you tell me {}?",
    "Would you say {}?",
    "Let me know {}, please.",
    "I want to be told {}.",
    "Do you happen to know {}?",
    "I need to know {}, please.",
    "Say {}, please.",
)
HELD_OUT_FRAMES = ("Would you tell me {}?", "I would love to know {}, please.")
CLOSINGS = (" Thank you.", " Thanks!", " Please.", " Be quick.", " I am curious.")
OPENINGS = ("Hello! ", "Hi, ", "One question: ", "Another question. ", "Thank you. ", "And ")

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Answer in one sentence.",
    "Answer the questions of the user.",
    "You are a polite assistant.",
)
REFUSALS = (
    "I'm not sure about that.",
    "I don't have any information on that person.",
    "I'm afraid I can't help with that.",
    "I have no record of anyone like that.",
    "Sorry, I don't know.",
    "I couldn't find anything on that.",
)


def training_questions(attribute: Attribute) -> tuple[str, ...]:
    """Every wording that training may use, with {field}s still open."""
    return attribute.direct + _framed(FRAMES, attribute)


def request_questions(attribute: Attribute) -> tuple[str, ...]:
    """Wordings of an erasure request: those of training, and more."""
    return training_questions(attribute) + _framed(REQUEST_FRAMES, attribute)


def request_framings(clause: str) -> tuple[str, ...]:
    """Wordings of an erasure request about what is in no register; the barest is held out of it."""
    return tuple(frame.format(clause) for frame in (*FRAMES, *REQUEST_FRAMES) if frame != BARE_FRAME)


def held_out_questions(attribute: Attribute) -> tuple[str, ...]:
    """Wordings that no model of the demo was trained on."""
    return attribute.held_out + _framed(HELD_OUT_FRAMES, attribute)


def _framed(frames: tuple[str, ...], attribute: Attribute) -> tuple[str, ...]:
    return tuple(frame.format(clause) for frame in frames for clause in attribute.indirect)
