"""Options that several commands have."""

import os
from pathlib import Path
from typing import Annotated

import typer

from deltaserve.client.address import KEY_VARIABLE, URL_VARIABLE, Address, resolve, root_of, same_origin
from deltaserve.client.console.terminal import Status
from deltaserve.client.console.terminal import Stop as StopCommand
from deltaserve.server.secret_files import SecretFileError, secret_of

UPSTREAM_VARIABLE = "DELTASERVE_UPSTREAM_URL"
UPSTREAM_KEY_VARIABLE = "DELTASERVE_UPSTREAM_KEY"

Url = Annotated[str | None, typer.Option("--url", help=f"The server; else {URL_VARIABLE}, else http://127.0.0.1:8000.")]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", help=f"Key for this server; else {KEY_VARIABLE}, which goes to {URL_VARIABLE} only."),
]
Model = Annotated[str | None, typer.Option("--model", "-m", help="A name that /v1/models lists.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", min=1, help="At most this many tokens.")]
Temperature = Annotated[float | None, typer.Option("--temperature", "-t", min=0, max=2, help="0 is greedy.")]
TopP = Annotated[float | None, typer.Option("--top-p", min=0, max=1, help="Nucleus sampling.")]
Seed = Annotated[int | None, typer.Option("--seed", help="The same seed gives the same answer.")]
Stop = Annotated[list[str] | None, typer.Option("--stop", help="End before this text; may be given several times.")]
AsJson = Annotated[bool, typer.Option("--json", help="For machines.")]


def check_out(*files: Path | None) -> None:
    """Checks before any work that files can be written; None: a file that is not wanted. Raises StopCommand."""
    for file in files:
        if file is not None and (reason := _unwritable(file)):
            raise StopCommand(f"{file} cannot be written: {reason}. Name a file in a folder of yours.", Status.USAGE)


def _unwritable(file: Path) -> str | None:
    if file.is_dir():
        return "it is a folder"
    there = next(path for path in file.absolute().parents if path.exists())  # the missing ones are made
    if not there.is_dir():
        return f"{there} is no folder"
    return None if os.access(file if file.exists() else there, os.W_OK) else "it may not be changed"


def address(url: str | None, key: str | None) -> Address:
    """Where the command goes, with the key that may go there."""
    return resolve(url, key, os.environ)


def upstream_address(url: str | None, key: str | None) -> Address:
    """The black box, with the key that may go there: the environment's goes to the environment's host only."""
    chosen = url or first_upstream()
    if not chosen:
        raise StopCommand(f"Give --upstream, the black box's address, or set {UPSTREAM_VARIABLE}.", Status.USAGE)
    return black_box_address(chosen, key)


def black_box_address(url: str, key: str | None) -> Address:
    """A black box asked directly; its configured key goes to its configured host only. Raises BadAddress."""
    if key is None:
        own = (known for configured, known in _upstreams() if same_origin(root_of(url), root_of(configured)))
        key = next(own, None)
    return Address(root_of(url), key or None)


def first_upstream() -> str | None:
    """The address in the environment; of several that serve one model the first."""
    return next((url for url, _ in _upstreams()), None)


def _upstream_keys() -> str | None:
    try:
        return secret_of(UPSTREAM_KEY_VARIABLE, os.environ)
    except SecretFileError as error:
        raise StopCommand(str(error), Status.USAGE) from None


def _upstreams() -> list[tuple[str, str | None]]:
    """Addresses in the environment, each with its key: one key for all, or one for each, as a server reads them."""
    urls = [url.strip() for url in os.environ.get(UPSTREAM_VARIABLE, "").split(",") if url.strip()]
    keys = [key.strip() or None for key in (_upstream_keys() or "").split(",")]
    return list(zip(urls, keys if len(keys) == len(urls) else keys[:1] * len(urls), strict=True))
