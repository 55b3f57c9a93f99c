"""What the admin routes take. A misspelled field is refused: half an order is worse than none."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from deltaserve.errors import BadRequest

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]  # as in offset.json
Strength = Annotated[float, Field(ge=-16, le=16, allow_inf_nan=False)]

NAME: Final = "a name of 1 to 64 letters, digits, '.', '_' and '-' that begins with a letter or a digit"
STRENGTH: Final = "a number from -16 to 16"


class _Order(BaseModel):
    """Strict types: `true` is no strength, and neither is "0.5"."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class Term(_Order):
    """One loaded offset in a sum; its own strength unless another is given."""

    name: Name
    strength: Strength | None = None


Terms = Annotated[list[Term], Field(min_length=1, max_length=64, fail_fast=True)]


class OffsetOrder(_Order):
    """A checkpoint to load, or loaded offsets to add up."""

    name: Name = Field(description=NAME)
    path: str | None = Field(None, min_length=1, max_length=4096, description="a path under the offsets root")
    sum: Terms | None = Field(None, description="a list of 1 to 64 {name, strength}")
    strength: Strength | None = Field(None, description=STRENGTH)
    activate: bool = Field(False, description="true or false")

    def require_path(self) -> str:
        """Of the checkpoint to load. Raises BadRequest."""
        if self.path is None or self.sum is not None:
            raise BadRequest("Send either `path` or `sum`.", param="path")
        return self.path

    def require_sum(self) -> dict[str, float | None]:
        """Offset name → strength. Raises BadRequest."""
        terms = self.sum or []
        if self.path is not None:
            raise BadRequest("Send either `path` or `sum`.", param="sum")
        if self.strength is not None:
            raise BadRequest("A sum has no strength of its own; give each term one.", param="strength")
        if len({term.name for term in terms}) < len(terms):
            raise BadRequest("A sum names each offset once: add up its strengths.", param="sum")
        return {term.name: term.strength for term in terms}


class StrengthOrder(_Order):
    """Another strength for a loaded offset."""

    strength: Strength = Field(description=STRENGTH)
