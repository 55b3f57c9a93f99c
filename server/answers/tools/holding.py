"""An answer that has a form of its own, as a family writes it, or calls tools instead."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from deltaserve.server.answers.tools.grammars.either import either
from deltaserve.server.answers.tools.protocol import Tool, ToolFormat


@runtime_checkable
class HoldsForms(Protocol):
    """A format whose answers do not simply have the form, or whose calls begin as forms may."""

    def held(self, form: str, tools: Sequence[Tool], parallel: bool, special: Mapping[str, int], /) -> str:
        """The grammar of an answer of this form or, where there are tools, of calls."""


def held(form: str, written: ToolFormat, tools: Sequence[Tool], parallel: bool, special: Mapping[str, int]) -> str:
    """`form`: a grammar as llguidance serialises it. Raises `BadRequest` as `ToolFormat.grammar`."""
    if isinstance(written, HoldsForms):
        return written.held(form, tools, parallel, special)
    calls = written.grammar(tools, "required", parallel, special)
    return form if calls is None else either(form, calls)
