"""Questions in other clothes: as a clause ("where Ada was born"), as a description ("the person who wrote Emma").

English, and only what can be done by the order of words: where a question is not of a known shape, there is none.
"""

import re
from typing import Final

NAME: Final = "{name}"  # stands where the subject's name stood
_AT = "in|from|at|on|by|for|to|with|of"
_ASKS = rf"(?:(?:{_AT}) )?(?:what|which|where|when|who|whom|whose|why|how)\b[\w ,'-]*?"
_BE = "is|was|are|were|has|had|can|could|will|would"
_ABOUT = r"(?:(?:the|a|an)\b[\w '-]* )?\{name\}(?:'s)?"
_INVERTED: Final = re.compile(
    rf"(?P<asks>{_ASKS}) (?P<verb>{_BE}|did|does) (?P<about>{_ABOUT})(?P<rest>[^?]*)\?", re.IGNORECASE
)
_SUBJECT: Final = re.compile(r"(?:who|which|what|whose)\b[^?]*\?", re.IGNORECASE)
_IS: Final = re.compile(r"(?:Who|What|Which) (?:is|was|are|were) (?P<noun>the [^?]+)\?")
_WHO: Final = re.compile(r"Who (?P<does>[^?]+)\?")
_WHICH: Final = re.compile(rf"(?:Which|What) (?P<noun>[a-z]+) (?P<does>(?!(?:{_AT}|about)\b)[^?]+)\?")
_OF_NOUN: Final = re.compile(rf"(?:(?P<at>{_AT}) )?(?:which|what) (?P<noun>[a-z]+)", re.IGNORECASE)
_LEFT_BEHIND: Final = ("called", "named")  # "what Ada's cat is called"
_PAST: Final = {
    "become": "became", "begin": "began", "build": "built", "come": "came", "do": "did", "fight": "fought",
    "find": "found", "get": "got", "give": "gave", "go": "went", "grow": "grew", "have": "had", "hold": "held",
    "keep": "kept", "lead": "led", "leave": "left", "lose": "lost", "make": "made", "meet": "met", "run": "ran",
    "say": "said", "sell": "sold", "sing": "sang", "star": "starred", "study": "studied", "take": "took",
    "teach": "taught", "win": "won", "write": "wrote",
}  # fmt: skip


def opened(text: str, name: str) -> str:
    """The text with NAME in the name's place."""
    return text.replace(name, NAME) if name else text


def clause(question: str) -> str | None:
    """ "Where was {name} born?" as "where {name} was born"; None for what is no question of a known shape."""
    if found := _INVERTED.fullmatch(question):
        return lower_first(_straight(found["asks"], found["verb"], found["about"], found["rest"]))
    inverted = re.match(rf"{_ASKS} (?:did|does|do) ", question, re.IGNORECASE)
    return lower_first(question[:-1]) if _SUBJECT.fullmatch(question) and not inverted else None


def description(question: str) -> str | None:
    """Whom a question asks for: "Who wrote {name}?" as "the person who wrote {name}"."""
    if found := _IS.fullmatch(question):
        return str(found["noun"])
    if found := _INVERTED.fullmatch(question):
        noun = _OF_NOUN.fullmatch(found["asks"])
        which = noun and f"the {noun['noun']} {noun['at'].lower() + ' which' if noun['at'] else 'that'}"
        return _straight(which, found["verb"], found["about"], found["rest"]) if which else None
    if found := _WHO.fullmatch(question):
        return f"the person who {found['does']}"
    found = _WHICH.fullmatch(question)
    return f"the {found['noun']} that {found['does']}" if found else None


def lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def sentence_end(text: str) -> str:
    """Without what ends it."""
    return text.rstrip().rstrip(".!?")


def _straight(asks: str, verb: str, about: str, rest: str) -> str:
    if verb.lower() in ("did", "does"):
        does, _, more = rest.strip().partition(" ")
        return f"{asks} {about} {_inflected(does, past=verb.lower() == 'did')} {more}".rstrip()
    if about.endswith("'s"):
        noun, _, last = rest.rpartition(" ")
        return f"{asks} {about}{noun} {verb} {last}" if last in _LEFT_BEHIND else f"{asks} {about}{rest} {verb}"
    return f"{asks} {about} {verb}{rest}"


def _inflected(verb: str, *, past: bool) -> str:
    if past and verb in _PAST:
        return _PAST[verb]
    if verb.endswith("y") and verb[-2:-1] not in tuple("aeiou"):
        return verb[:-1] + ("ied" if past else "ies")
    if past:
        return verb + ("d" if verb.endswith("e") else "ed")
    if verb == "have":
        return "has"
    return verb + ("es" if verb.endswith(("s", "x", "ch", "sh", "o")) else "s")
