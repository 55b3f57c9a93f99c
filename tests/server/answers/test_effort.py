"""`reasoning_effort` becomes what the chat template reads, or is refused."""

from typing import Any

import pytest

from deltaserve.errors import BadRequest, UnsupportedParameter
from deltaserve.server.answers.effort import with_effort

SWITCH, LEVEL = {"messages", "enable_thinking"}, {"messages", "reasoning_effort"}


@pytest.mark.parametrize(
    ("effort", "given", "variables", "expected"),
    [
        (None, None, SWITCH, None),
        (None, {"a": 1}, SWITCH, {"a": 1}),
        ("none", None, SWITCH, {"enable_thinking": False}),
        ("low", {"a": 1}, SWITCH, {"a": 1, "enable_thinking": True}),
        ("high", None, {"thinking"}, {"thinking": True}),
        ("low", None, LEVEL, {"reasoning_effort": "low"}),
        ("max", None, {"thinking", "thinking_effort"}, {"thinking": True, "thinking_effort": "max"}),
        ("none", None, SWITCH | LEVEL, {"enable_thinking": False, "reasoning_effort": "none"}),
        ("none", {"enable_thinking": False}, SWITCH, {"enable_thinking": False}),
    ],
)
def test_an_effort_is_a_level_or_a_switch(effort: Any, given: Any, variables: set[str], expected: Any) -> None:
    assert with_effort(effort, given, variables, thinks=True) == expected


def test_a_model_that_does_not_think_takes_no_effort_but_none() -> None:
    assert with_effort("none", None, {"messages"}, thinks=False) == {}
    with pytest.raises(UnsupportedParameter, match="knows no reasoning"):
        with_effort("low", None, {"messages"}, thinks=False)


def test_a_model_that_always_thinks_cannot_be_told() -> None:
    with pytest.raises(UnsupportedParameter, match="no way to turn thinking off"):
        with_effort("none", None, {"messages"}, thinks=True)
    with pytest.raises(UnsupportedParameter, match="knows no efforts"):
        with_effort("low", None, {"messages"}, thinks=True)


def test_two_different_wishes_are_refused() -> None:
    with pytest.raises(BadRequest, match="say different things"):
        with_effort("low", {"enable_thinking": False}, SWITCH, thinks=True)
