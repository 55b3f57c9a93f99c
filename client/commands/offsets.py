"""deltaserve offsets: checkpoints on disk; those of a running server are in `offsets_admin`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from deltaserve.client.console import offsets_admin, shared
from deltaserve.client.console.generated import given
from deltaserve.client.console.tables import say_table
from deltaserve.client.console.terminal import Status, Stop, new_app, say, say_json

app = new_app(no_args_is_help=True)

Folder = Annotated[Path | None, typer.Option(file_okay=False)]


@app.callback()
def offsets() -> None:
    """Offset checkpoints: make, look at, load, activate, roll back."""


@app.command()
def inspect(path: Path, as_json: shared.AsJson = False) -> None:
    """Show what a checkpoint folder says of itself and holds.

    Names, sizes and digests are read, weights are not judged; `deltaserve doctor` does that.
    """
    from deltaserve.offset_models.checkpoints.checkpoint import inspect as inspect_checkpoint

    facts = inspect_checkpoint(path)
    if as_json:
        say_json(facts)
    else:
        say_table(("field", "value"), list(_lines(facts)))


@app.command()
def pack(
    out: Annotated[Path, typer.Argument(help="The checkpoint folder to make; it must not exist.")],
    name: Annotated[str, typer.Option(help="The offset's name.")],
    licence: Annotated[str, typer.Option(help="SPDX identifier of the weights' licence.")],
    adapter: Annotated[Path | None, typer.Option(help="peft's folder of the unlearned adapter; with --base.")] = None,
    base: Annotated[Path | None, typer.Option(help="The shared base model's folder; with --adapter.")] = None,
    base_path: Annotated[
        str | None,
        typer.Option(help="Where a server finds the base, relative to OUT (../base); else its settings say."),
    ] = None,
    initial: Annotated[Path | None, typer.Option(help="The initial model's folder; with --unlearned.")] = None,
    unlearned: Annotated[Path | None, typer.Option(help="The unlearned model's folder; with --initial.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="The tokenizer's folder, where it is another one.")] = None,
    method: Annotated[str | None, typer.Option(help="How the offset was made.")] = None,
    strength: Annotated[float | None, typer.Option(help="The strength it was made for.")] = None,
    gate_nats: Annotated[
        float | None, typer.Option(help="No offset where KL(u ‖ o) is below this; default: 0.")
    ] = None,
    as_json: shared.AsJson = False,
) -> None:
    """Make a checkpoint out of an adapter and its base, or out of two models.

    Proxy-tuning packs (untuned, tuned), divergence decoding (forget, retain) as --initial and --unlearned.
    """
    from deltaserve.offset_models.checkpoints.pack import pack_adapter, pack_pair

    about = given({"method": method, "strength": strength, "gate_nats": gate_nats, "tokenizer_folder": tokenizer})
    names: dict[str, Any] = {"name": name, "licence": licence}
    if adapter and base and not (initial or unlearned):
        manifest = pack_adapter(
            out, adapter_folder=adapter, base_folder=base, **names, **given({"base_path": base_path}), **about
        )
    elif initial and unlearned and not (adapter or base or base_path):
        manifest = pack_pair(out, initial_folder=initial, unlearned_folder=unlearned, **names, **about)
    else:
        raise Stop("Give --adapter and --base, or --initial and --unlearned.", Status.USAGE)
    facts = {"path": str(out), "name": manifest.name, "kind": manifest.kind, "content_digest": manifest.content_digest}
    if as_json:
        say_json(facts)
    else:
        say(f"{out}: offset {manifest.name}, {manifest.kind}, content digest {manifest.content_digest[:12]}")


@app.command()
def schema() -> None:
    """Print the JSON schema of offset.json."""
    from deltaserve.offset_models.checkpoints.manifest import manifest_json_schema

    say_json(manifest_json_schema())


offsets_admin.add_to(app)


def _lines(facts: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested fields as dotted names; empty ones are left out."""
    lines: list[tuple[str, str]] = []
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += _lines(value, f"{prefix}{key}.")
        elif value not in (None, [], ""):
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            lines.append((prefix + key, text))
    return lines
