"""Every option that takes a number refuses `nan` and `inf`: they are floats, but no strength, temperature or time."""

import math
from typing import Any

import typer


def only_finite(command: Any) -> Any:
    """The command, or a group with its commands, whose float parameters take finite numbers only."""
    for sub in getattr(command, "commands", {}).values():
        only_finite(sub)
    for parameter in command.params:
        if parameter.type_descriptor.annotation is float:
            _refuse_others(parameter)
    return command


def _refuse_others(parameter: Any) -> None:
    taken = parameter.process_value

    def process(context: Any, value: Any) -> Any:
        for one in value if isinstance(value, list | tuple) else [value]:
            if one is not None and not finite(one):
                raise typer.BadParameter(f"{one} is not a finite number.", ctx=context, param=parameter)
        return taken(context, value)

    parameter.process_value = process


def finite(value: object) -> bool:
    """Also true for a value that is no number: that is refused elsewhere."""
    try:
        return math.isfinite(float(str(value)))
    except ValueError:
        return True
