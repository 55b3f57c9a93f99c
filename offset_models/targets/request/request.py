"""What somebody asks for: a target by its name, documents about it, and how much may be spent on it."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deltaserve.errors import BadRequest
from deltaserve.offset_models.files.digests import digest_of, sha256_file
from deltaserve.offset_models.targets.subject import KINDS, Kind

DEFAULT_CALLS: Final = 1500
LEAST_CALLS: Final = 200  # with fewer no facts would be left after the neighbours, or no rows after the facts
LONGEST_NAME: Final = 200  # characters


def target_name(about: str) -> str:
    """A name as black boxes write it: one space between words, none around, letters with their marks as one character.

    Raises BadRequest for what is no name.
    """
    name = " ".join(unicodedata.normalize("NFC", about).split()) if about.isprintable() else ""
    if not any(map(str.isalnum, name)) or len(name) > LONGEST_NAME:
        raise BadRequest(f"A target is a name of one line, of at most {LONGEST_NAME} characters.")
    return name


@dataclass(frozen=True, slots=True)
class Request:
    """Raises BadRequest for what cannot be asked for. `calls` are those to the black box before training, at most."""

    about: str
    kind: Kind | None = None  # None: the black box is asked
    context: Sequence[Path] = ()  # documents about the target
    calls: int = DEFAULT_CALLS
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "about", target_name(self.about))
        if self.kind is not None and self.kind not in KINDS:
            raise BadRequest(f"{self.kind!r} is no kind of target: one of {', '.join(KINDS)}.")
        if self.calls < LEAST_CALLS:
            raise BadRequest(
                f"{self.calls} calls are too few to find out what a black box knows: {LEAST_CALLS} or more."
            )

    def identity(self) -> str:
        """sha256 (hex) of all that decides the rows, but for the black box; of the documents their contents count.

        Raises BadRequest for a document that cannot be read.
        """
        texts = [_digest(path) for path in self.context]
        return digest_of(["about", self.about, self.kind, texts, self.calls, self.seed])


def _digest(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}.") from error
