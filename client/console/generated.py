"""Command-line options made from a settings class, so that every setting has one and is written down once."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import typer

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Flag:
    """One option. `default_text`: the default as help shows it in brackets; "" for none."""

    name: str
    kind: Any
    help: str = ""
    default_text: str = ""

    def _annotation(self, option: Any) -> Any:
        return Annotated[self.kind | None, option]

    def parameter(self) -> inspect.Parameter:
        default = f"[{self.default_text}]" if self.default_text else ""
        # A switch that is already called no_… has no opposite.
        names = (f"--{self.name.replace('_', '-')}",) if self.name.startswith("no_") else ()
        option = typer.Option(*names, help=" ".join(filter(None, (self.help, default))), show_default=False)
        return inspect.Parameter(
            self.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=self._annotation(option)
        )


def accepts(flags: Iterable[Flag]) -> Callable[[F], F]:
    """The decorated function gets all flags as keywords beside its own parameters; None for those not given."""
    generated = [flag.parameter() for flag in flags]

    def decorate(function: F) -> F:
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        parameters = [*own, *generated]
        function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        function.__annotations__ = {p.name: p.annotation for p in parameters}
        return function

    return decorate


def given(values: dict[str, Any]) -> dict[str, Any]:
    """The values that were given on the command line."""
    return {name: value for name, value in values.items() if value is not None}


def without_none(annotation: Any) -> Any:
    """`int` of `int | None`."""
    if get_origin(annotation) in (Union, UnionType):
        left = [part for part in get_args(annotation) if part is not NoneType]
        return left[0] if len(left) == 1 else annotation
    return annotation


def default_text_of(value: object) -> str:
    """A default as help shows it; of a path the last two parts, because the rest differs between machines."""
    if value is None or value in ("", ()):
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return "/".join(value.parts[-2:]) if isinstance(value, Path) else str(value)
