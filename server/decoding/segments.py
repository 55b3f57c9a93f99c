"""What an answer is made of where it is read by a parser: text, and the special tokens in it by their ids."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Special:
    """An added token that a parser wants to see by its id; its text is not among the text around it."""

    token_id: int
    text: str


Segment = str | Special
