"""A chat as the command line keeps it: turns, settings, and the commands that begin with a slash."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from deltaserve.client.calls import Generation, Message


class Ended(Exception):
    """The user is done."""


@dataclass(slots=True)
class Conversation:
    """Turns so far, and how the next answer is generated."""

    how: Generation
    system: str | None = None
    messages: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the turns; the system message stays."""
        self.messages = [{"role": "system", "content": self.system}] if self.system else []

    def ask(self, text: str) -> None:
        self.messages.append({"role": "user", "content": text})

    def answered(self, text: str) -> None:
        self.messages.append({"role": "assistant", "content": text})

    def unask(self) -> None:
        """Take back a question that got no answer."""
        self.messages.pop()

    def command(self, line: str) -> str:
        """Carry out `/name value`; gives what to tell the user. Raises Ended."""
        name, _, value = line.partition(" ")
        action = COMMANDS.get(name)
        if action is None:
            return f"There is no command {name}; /help lists them."
        return action(self, value.strip())


def _help(_chat: Conversation, _value: str) -> str:
    """this list"""
    return "\n".join(f"{name:<14}{action.__doc__}" for name, action in COMMANDS.items())


def _reset(chat: Conversation, _value: str) -> str:
    """begin anew; the system message stays"""
    chat.reset()
    return "The conversation begins anew."


def _model(chat: Conversation, value: str) -> str:
    """NAME: another model; without a name, the server's own choice"""
    chat.how = replace(chat.how, model=value or None)
    return f"Model: {value or 'the server chooses'}."


def _seed(chat: Conversation, value: str) -> str:
    """N: answers that can be repeated; without a number, not"""
    try:
        chat.how = replace(chat.how, seed=int(value) if value else None)
    except ValueError:
        return "A seed is a whole number."
    return f"Seed: {value or 'none'}."


def _temperature(chat: Conversation, value: str) -> str:
    """T: 0 is greedy, up to 2; without a number, the server's default"""
    try:
        temperature = float(value) if value else None
    except ValueError:
        temperature = -1.0
    if temperature is not None and not 0 <= temperature <= 2:
        return "A temperature is a number from 0 (greedy) to 2."
    chat.how = replace(chat.how, temperature=temperature)
    return f"Temperature: {value or 'the default'}."


def _exit(_chat: Conversation, _value: str) -> str:
    """leave"""
    raise Ended


COMMANDS: Final[Mapping[str, Callable[[Conversation, str], str]]] = {
    "/help": _help,
    "/reset": _reset,
    "/model": _model,
    "/seed": _seed,
    "/temperature": _temperature,
    "/exit": _exit,
}
