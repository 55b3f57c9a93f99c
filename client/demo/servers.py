"""The two servers of the demo as processes on loopback: the embedded black box, and deltaserve in front of it."""

import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from deltaserve.client.console.children import refuse_busy, running, until_ready
from deltaserve.client.console.terminal import Stop
from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.demo.manifest import verify_weights
from deltaserve.offset_models.demo.process import HOST, Child, free_port
from deltaserve.server.setting_sources import PREFIX

Tail = Literal["impute", "truncate"]
OffsetName = Literal["registry-erasure", "bridged"]

# Folders of a build, as deltaserve.offset_models.demo.pipeline.build names them.
BLACK_BOX: Final = "blackbox"
BASE: Final = "base"
OFFSET: Final = "registry-erasure"
BRIDGED: Final = "bridged"  # the offset of a pair whose tokenizer is not the black box's
BRIDGED_BASE: Final = "bridged-base"
READY_WITHIN_S: Final = 60.0
DEFAULT_K: Final = 20
NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Correction:
    """How the server corrects."""

    k: int = DEFAULT_K
    tail: Tail = "impute"
    offset: OffsetName = OFFSET

    def __str__(self) -> str:
        return f"k = {self.k}, {self.tail}" + (f", {self.offset}" if self.offset != OFFSET else "")

    def pair(self, weights: Path) -> dict[str, Any]:
        """Settings of the server that name its pair."""
        if self.offset == OFFSET:
            return {"offset": OFFSET, "base": weights / BASE}
        return {"offset": BRIDGED, "base": weights / BRIDGED_BASE, "upstream-tokenizer": weights / BLACK_BOX}


@dataclass(frozen=True, slots=True)
class Running:
    """A running server: its address, its process, and its admin key where it has one."""

    url: str
    child: Child
    admin_key: str | None = field(default=None, repr=False)


def checked_weights(folder: Path, offset: OffsetName = OFFSET) -> Path:
    """The folder itself, once every file is verified against the manifest. Raises Stop; also without `offset`."""
    try:
        verify_weights(folder)
    except BadCheckpoint as error:
        raise Stop(f"{error.message} `deltaserve demo --build` makes them again.") from error
    if not (folder / offset).is_dir():
        raise Stop(f"These weights have no offset {offset}: `deltaserve demo --build --out FOLDER` makes one.")
    return folder


@asynccontextmanager
async def black_box(weights: Path, port: int | None, k: int, model: str = BLACK_BOX) -> AsyncIterator[Running]:
    """The embedded black box, starting; None: any free port. Raises AddressUnusable when the port is taken.

    `model`: which of the build's folders it serves.
    """
    port = _port(port, "black box", "--black-box-port")
    options = ("--model", weights / model, "--host", HOST, "--port", port, "--max-logprobs", max(k, DEFAULT_K))
    async with running("black box", "-m", "deltaserve.offset_models.demo.blackbox", *map(str, options)) as child:
        yield Running(f"http://{HOST}:{port}", child)


@asynccontextmanager
async def server(
    weights: Path,
    port: int | None,
    upstream: str,
    how: Correction,
    examples: Sequence[str] = (),
    more: Mapping[str, object] = NOTHING,
) -> AsyncIterator[Running]:
    """A server in front of `upstream` with the demo's offset, starting. Raises AddressUnusable when the port is taken.

    `examples`: questions that its playground offers. `more`: other settings, by their own names.
    """
    port = _port(port, "server", "--port")
    admin_key = secrets.token_urlsafe(12)
    options = {
        "upstream-url": upstream,
        "upstream-k": how.k,
        "tail": how.tail,
        "offsets-root": weights,
        **how.pair(weights),
        "host": HOST,
        "port": port,
        "workers": 0,  # one process: it starts and ends soonest
        "device": "cpu",  # models of a few MB; and its answers are the same everywhere
        "torch-threads": 1,  # the black box needs the other cores
        "connect-timeout-s": 1,  # also how soon a black box that is not up yet is asked again
        "drain-timeout-s": 1,
        "log-level": "warning",
    }
    environment = {"DELTASERVE_ADMIN_KEY": admin_key, "DELTASERVE_PLAYGROUND_EXAMPLES": "\n".join(examples)}
    environment |= {f"{PREFIX}{name.upper()}": str(value) for name, value in more.items()}
    with tempfile.TemporaryDirectory() as state:  # a demo begins anew, and its weights stay as built
        arguments = [f"--{name}={value}" for name, value in {**options, "state-folder": state}.items()]
        async with running("server", "-m", "deltaserve", "serve", *arguments, environment=environment) as child:
            yield Running(f"http://{HOST}:{port}", child, admin_key)


async def ready(*servers: Running) -> None:
    """Waits for each of them. Raises Stop when one dies or takes too long."""
    for server in servers:
        await until_ready(server.child, server.url, READY_WITHIN_S)


def _port(port: int | None, what: str, option: str) -> int:
    if port is None:
        return free_port()
    refuse_busy(HOST, port, what, option)
    return port
