"""Scripts of tests/clients, each with a client's own interpreter; what they print becomes docs/clients.md."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from shutil import copytree
from typing import Any

COMMAND = "CLIENTS_ENV"  # the folder with the environments: python/, instructor/ and node/
PAGE = "CLIENTS_PAGE"
WITHIN_S = 300
FOLDER = Path(__file__).parent.parent / "clients"
SCRIPTS = sorted(path for path in FOLDER.glob("*/*.*") if path.suffix in (".py", ".mjs") and path.stem != "checks")

HEADER = """\
# Clients

Unmodified clients, each in the version named here, against `deltaserve serve` on loopback: `make e2e-clients` installs
them below `build/clients`, runs the scripts of `tests/clients` and writes this page. Every row is a call that was made,
and what came back; the scripts assert it. Two servers answer:

- the demo's black box with its offset at strength 1. Its model knows one register and no JSON: an object of its is
  valid because the answer was held to the schema, and seldom true;
- a stand-in black box with vLLM's routes that says what it is told, at strength 0. It shows what a larger model does by
  its own choice. From it come the rows about tools, thoughts and full places, and those that name it.

What we met:

- The packages on Node ask for Node 22; where an older one is named here, they ran nevertheless.
- anthropic-python has no argument `temperature` any more; `extra_body` sends it.
- @ai-sdk/openai shows no reasoning: it reads neither `reasoning_content` nor the text of a reasoning item.
  @ai-sdk/openai-compatible and @ai-sdk/anthropic do.
- @ai-sdk/anthropic asks for an object as a call of a tool, so the model's chat template needs a place for tools. The
  demo's has none.
- instructor needs an older openai than the newest, and has an environment of its own.

lm-eval has a target of its own, `make e2e-lmeval` ([scoring a prompt](api.md#scoring-a-prompt)).
"""


@dataclass(frozen=True, slots=True)
class Call:
    """One line of a script."""

    client: str
    version: str
    called: str
    asked: str
    came: str
    ok: bool

    @property
    def row(self) -> str:
        cells = (f"`{self.called}`", self.asked, self.came if self.ok else f"**failed**: {self.came}")
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def environments() -> Path | None:
    """Where `make e2e-clients` installed the clients."""
    given = os.environ.get(COMMAND)
    return Path(given).absolute() if given else None


def run(script: Path, servers: Mapping[str, str]) -> tuple[list[Call], int, str]:
    """Its lines, its exit status, and what it wrote on stderr."""
    folder = environments()
    assert folder is not None
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    own = {"HOME": str(folder), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        _command(script, folder),
        env={**kept, **own, **servers},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
    )
    return [Call(**json.loads(line)) for line in done.stdout.splitlines()], done.returncode, done.stderr


def _command(script: Path, folder: Path) -> Sequence[Any]:
    if script.suffix == ".mjs":
        copytree(script.parent, folder / "node", dirs_exist_ok=True)  # imports are looked up beside the script
        return ["node", folder / "node" / script.name]
    own = folder / script.stem.split("_")[0] / "bin" / "python"
    return [own if own.exists() else folder / "python" / "bin" / "python", script]


def page(calls: Sequence[Call]) -> str:
    """The whole of docs/clients.md."""
    parts = [HEADER.rstrip()]
    by_client = sorted(calls, key=lambda call: (call.client, call.version))
    for (client, version), rows in groupby(by_client, lambda call: (call.client, call.version)):
        parts += [f"\n## {client} {version}\n", "| called | with | what came |", "| --- | --- | --- |"]
        parts += [call.row for call in rows]
    return "\n".join([*parts, ""])
