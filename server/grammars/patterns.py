"""JSON Schema's patterns are JavaScript's regular expressions; llguidance reads Rust's: what differs is rewritten.

`\\d` and `\\w` need nothing: llguidance reads them as JavaScript does.
"""

import re
from typing import Final

from deltaserve.errors import BadRequest

MAX_PATTERN: Final = 8192  # characters
MAX_REPEATED: Final = 20_000  # characters that counted repetitions write out: ten times as many take seconds

_SPACES: Final = r"\t-\r \x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}\x{FEFF}"
_OUTSIDE: Final = {r"\s": f"[{_SPACES}]", r"\S": f"[^{_SPACES}]", ".": r"[^\n\r\x{2028}\x{2029}]"}
_INSIDE: Final = {r"\s": _SPACES, r"\S": f"[^{_SPACES}]", "[": r"\[", "&": r"\&", "~": r"\~", r"\b": r"\x08"}
_PIECE: Final = re.compile(r"\\.|.", re.DOTALL)
_NOT_IN_JAVASCRIPT: Final = {r"\A", r"\z", r"\Z", r"\a", r"\Q"}
_EMPTY_CLASS: Final = re.compile(r"(?<!\\)(?:\\\\)*\[\^?\]")
_LITERALS: Final = re.compile(r"\^(?:([\w-]+)|\((?:\?:)?([\w-]+(?:\|[\w-]+)*)\))\$")
_COUNTED: Final = re.compile(r"\{(\d+)(,?)(\d*)\}")


def rust_pattern(pattern: str) -> str:
    """The same pattern in Rust's syntax. Raises BadRequest."""
    require_bounded(pattern)
    if _EMPTY_CLASS.search(pattern):
        raise BadRequest("the empty classes `[]` and `[^]` are not taken")
    written, inside = [], False
    for piece in _PIECE.findall(pattern):
        if piece in _NOT_IN_JAVASCRIPT:
            raise BadRequest(f"`{piece}` is not part of JavaScript's regular expressions, which JSON Schema uses")
        if inside:
            inside = piece != "]"
            written.append(_INSIDE.get(piece, piece))
        else:
            inside = piece == "["
            written.append(_OUTSIDE.get(piece, piece))
    return "".join(written)


def literals(pattern: str) -> list[str] | None:
    """The texts that a pattern such as `^(red|blue)$` lists; None of any other."""
    found = _LITERALS.fullmatch(pattern)
    return (found[1] or found[2]).split("|") if found else None


def require_bounded(pattern: str) -> None:
    """Raises BadRequest for a pattern that is long, or is once its counted repetitions are written out."""
    if len(pattern) > MAX_PATTERN:
        raise BadRequest(f"a pattern may have at most {MAX_PATTERN:,} characters, and this one has {len(pattern):,}")
    if _written_out(pattern) > MAX_REPEATED:
        raise BadRequest(
            f"with its counted repetitions written out, a pattern may have at most {MAX_REPEATED:,} characters"
        )


def _written_out(pattern: str) -> int:
    """Characters where `(ab){3}` is written `ababab`; groups and classes are followed, an escape is one character."""
    groups = [0]  # written so far in each open group
    last, at, inside = 0, 0, False
    while at < len(pattern):
        counted = None if inside else _COUNTED.match(pattern, at)
        if counted:
            groups[-1] += last * (max(int(counted[1][:9]), int(counted[3][:9] or 0)) - 1)
            at = counted.end()
            continue
        letter = pattern[at]
        at += 2 if letter == "\\" else 1
        if inside or letter == "[":
            inside = letter != "]"
            last = 1
        elif letter == "(":
            groups.append(0)
            continue
        elif letter == ")" and len(groups) > 1:
            last = groups.pop()
        else:
            last = 1
        groups[-1] += last
    return sum(groups)
