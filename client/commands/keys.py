"""deltaserve keys: named keys with limits, for `keys_file`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import orjson
import typer

from deltaserve.client.console import shared
from deltaserve.client.console.tables import say_table
from deltaserve.client.console.terminal import Status, Stop, new_app, note, say, say_json

app = new_app(no_args_is_help=True)
MOST: Final = 10**12  # of any limit, as the file's reader takes it


@app.callback()
def keys() -> None:
    """Named keys with limits: make one, check the file of them."""


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is; logs and metrics name it.")],
    streams: Annotated[int | None, typer.Option(min=1, max=MOST, help="Answers at a time.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, max=MOST, help="Requests of any kind.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1, max=MOST, help="Of prompts, and generated.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="One it may ask; may be given several times.")] = None,
    expires: Annotated[str | None, typer.Option(help="Day or time (UTC) from which it opens nothing.")] = None,
    as_json: shared.AsJson = False,
) -> None:
    """Make a key. It is shown once, on stderr; stdout has what to add to the file that `keys_file` names.

    deltaserve keys new alice --streams 4 >> keys.toml
    """
    from deltaserve.server.serving.admission.keys_file import NAME, digest_of, new_key

    if not all(one and one.isprintable() for one in model or ()):
        raise Stop("--model is a name as /v1/models lists it.", Status.USAGE)
    if NAME.fullmatch(name) is None:
        raise Stop("A name is up to 64 letters, digits, dots, dashes and underscores.", Status.USAGE)
    key = new_key()
    given = {
        "sha256": digest_of(key).hex(),
        "streams": streams,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "models": model or None,
        "expires": None if expires is None else _time(expires),
    }
    entry = {field: value for field, value in given.items() if value is not None}
    if as_json:
        say_json({"name": name, "key": key, **entry})
        return
    note(f"The key, shown this once: {key}")
    say(_table(name, entry), end="")


@app.command()
def check(file: Path, as_json: shared.AsJson = False) -> None:
    """Read a file of keys as a server would, and show whom it names."""
    from deltaserve.server.serving.admission.keys_file import read_keys

    holders = sorted(read_keys(file).values(), key=lambda holder: holder.client.name)
    if as_json:
        say_json([{"client": holder.client, "expires": holder.expires} for holder in holders])
        return
    now = datetime.now(UTC)
    rows = []
    for holder in holders:
        client = holder.client
        limits = (client.streams, client.requests_per_minute, client.tokens_per_minute)
        models = "any" if client.models is None else " ".join(client.models)
        until = "" if holder.expires is None else holder.expires.isoformat()
        state = "expired" if holder.expired(now) else "good"
        rows.append([client.name, *("" if limit is None else f"{limit:,}" for limit in limits), models, until, state])
    say_table(("name", "streams", "requests/min", "tokens/min", "models", "expires", "state"), rows)


def _time(text: str) -> datetime:
    """In UTC: TOML knows no zones that differ by seconds."""
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise Stop("--expires is a day or a time: 2027-01-01, or 2027-01-01T12:00:00Z.", Status.USAGE) from None


def _table(name: str, entry: Mapping[str, object]) -> str:
    """TOML; a name with a dot needs quotation marks."""
    lines = [f"[{orjson.dumps(name).decode()}]" if "." in name else f"[{name}]"]
    for field, value in entry.items():
        written = value.isoformat() if isinstance(value, datetime) else orjson.dumps(value).decode()
        lines.append(f"{field} = {written}")
    return "\n".join(["", *lines, ""])
