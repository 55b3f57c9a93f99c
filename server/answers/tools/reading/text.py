"""Reading up to a mark, past spaces, and around calls."""

import re
from collections.abc import Callable, Generator
from typing import TypeVar

from deltaserve.server.answers.parts import Content, Part
from deltaserve.server.answers.tools.reading.reader import Calls
from deltaserve.server.answers.tools.reading.source import Source

Result = TypeVar("Result")
# What a reading that gives pieces of text yields (None: more is needed), and what it returns.
Pieces = Generator[str | None, None, Result]
Parts = Generator[Part | None, None, Result]
Waiting = Generator[None, None, Result]


def shown(pieces: Pieces[Result], show: Callable[[str], Part]) -> Parts[Result]:
    """The pieces as parts."""
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # a StopIteration has no type
        yield None if piece is None else show(piece)


def collected(pieces: Pieces[Result], into: list[str]) -> Waiting[Result]:
    """The pieces, kept until they are known to be wanted."""
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # a StopIteration has no type
        if piece is None:
            yield None
        else:
            into.append(piece)


def until(source: Source, *signs: str) -> Pieces[str | None]:
    """Text up to the first of these signs, which is taken and returned; None where the answer ends before."""
    anywhere = re.compile("|".join(map(re.escape, signs)))
    while True:
        if found := anywhere.search(source.text):
            yield source.take(found.start())
            source.take(len(found[0]))
            return found[0]
        yield source.take(len(source.text) - source.held(*signs))
        if source.closed:
            return None
        yield None


def peek(source: Source) -> Waiting[str]:
    """The next character, which is not taken; empty at the end."""
    while not source.text and not source.closed:
        yield None
    return source.text[:1]


def spaces(source: Source) -> Waiting[str]:
    """Takes spaces and line ends; returns them."""
    taken = ""
    while (character := (yield from peek(source))) and character.isspace():
        taken += source.take(len(source.text) - len(source.text.lstrip()))
    return taken


def sign_next(source: Source, *signs: str) -> Waiting[str | None]:
    """The sign that the text goes on with, which is taken; None where it does not, and nothing is taken."""
    while True:
        for sign in signs:
            if source.text.startswith(sign):
                source.take(len(sign))
                return sign
        if source.closed or not any(sign.startswith(source.text) for sign in signs):
            return None
        yield None


def content(source: Source, calls: Calls, *signs: str) -> Parts[str | None]:
    """Content up to the first of these signs, which is taken and returned; None at the end of the answer.

    Spaces that stand alone beside a call are its layout, and no content.
    """
    before = yield from spaces(source)
    if sign := (yield from sign_next(source, *signs)):
        return sign
    if source.text or not calls.count:
        yield Content(before)
    return (yield from shown(until(source, *signs), Content))


def text_until(source: Source, *signs: str) -> Waiting[tuple[str, str | None]]:
    """The text up to the first of these signs, and the sign, which is taken."""
    pieces: list[str] = []
    sign = yield from collected(until(source, *signs), pieces)
    return "".join(pieces), sign


def no_call(source: Source, marker: str) -> Parts[None]:
    """What to do behind a mark that no call followed: its letters are content, and the rest is read on.

    Half a call at the end of an answer is neither a call nor content: it is left out.
    """
    if source.closed:
        source.take(len(source.text))
    else:
        yield Content(marker)


def unread(source: Source, calls: Calls, *ends: str) -> Parts[None]:
    """What a call goes on with though its format does not write it: it is shown as it is, up to an end.

    At the end of the answer it is the beginning of a value that cannot be told yet, and is left out.
    """
    if source.closed:
        source.take(len(source.text))
    else:
        yield from shown(until(source, *ends), calls.arguments)
