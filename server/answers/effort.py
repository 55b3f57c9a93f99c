"""`reasoning_effort` as the chat template takes it."""

from collections.abc import Collection, Mapping
from typing import Any, Final, Literal, get_args

from deltaserve.errors import BadRequest, UnsupportedParameter

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
EFFORTS: Final[tuple[str, ...]] = get_args(Effort)
_FIELD: Final = "reasoning_effort"
_LEVELS: Final = (_FIELD, "thinking_effort")  # a word
_SWITCHES: Final = ("enable_thinking", "thinking")  # true or false


def with_effort(
    effort: Effort | None, given: Mapping[str, Any] | None, variables: Collection[str], *, thinks: bool
) -> Mapping[str, Any] | None:
    """`chat_template_kwargs` with what the template reads of an effort: a level, a switch, or both.

    `given`: those of the request; `variables`: what the template reads; `thinks`: whether it is of a model that thinks.
    Raises BadRequest where they say otherwise; UnsupportedParameter where the template
    reads nothing of the kind.
    """
    if effort is None:
        return given
    read = {name: effort != "none" for name in _SWITCHES if name in variables}
    level = {name: effort for name in _LEVELS if name in variables}
    if not read and not level and (effort != "none" or thinks):
        raise UnsupportedParameter(_sentence(effort, thinks), param=_FIELD)
    added = {**read, **level}
    for name, value in added.items():
        if name in (given or {}) and (given or {})[name] != value:
            raise BadRequest(
                f"`reasoning_effort` and `chat_template_kwargs.{name}` say different things: send one of them.",
                param=_FIELD,
            )
    return {**(given or {}), **added}


def _sentence(effort: Effort, thinks: bool) -> str:
    if thinks and effort == "none":
        return "`reasoning_effort`: this model's chat template has no way to turn thinking off; leave it out."
    if thinks:
        return "`reasoning_effort`: this model's chat template knows no efforts; leave it out."
    return "`reasoning_effort` is not supported: this model's chat template knows no reasoning; leave it out."
