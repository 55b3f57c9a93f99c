"""What was tried to get at a new offset, and what still comes out: a short run of the attacks, kept in its card.

The checkpoint is served on loopback as it will be served, and is attacked through the public API. No text is kept.
"""

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from deltaserve.client.address import Address
from deltaserve.client.console.children import running, until_ready
from deltaserve.client.evaluation.attacks.leakage import measure
from deltaserve.client.evaluation.attacks.run import Progress, Settings
from deltaserve.client.evaluation.data.items import Suite
from deltaserve.client.evaluation.data.reading import BadData
from deltaserve.client.evaluation.leakage_results import LeakageReport
from deltaserve.client.evaluation.report.card import add_to, figures
from deltaserve.client.evaluation.report.page import heading, markdown
from deltaserve.offset_models.bridge.tables import table_files
from deltaserve.offset_models.checkpoints.checkpoint import read_manifest
from deltaserve.offset_models.demo.process import HOST, READY_WITHIN_S, free_port
from deltaserve.offset_models.files.digests import digest_of
from deltaserve.server.setting_sources import PREFIX

# A handful of facts and every attack: enough to say which ways are open, not how wide.
SHORT: Final = Settings(
    items=6, costly_items=1, samples=8, max_tokens=32, kept=0, timed=0, texts=False, minutes=5.0, calls=400
)


@dataclass(frozen=True, slots=True)
class Serving:
    """A checkpoint and the black box that it is made for."""

    checkpoint: Path
    base: Path
    upstream: Address
    model: str = ""  # empty: the only one that the black box lists
    k: int = 20
    device: str = "auto"
    upstream_tokenizer: Path | None = None  # folder of the black box's, where it is not the base's

    def options(self, port: int, state: str) -> list[str]:
        """Of `deltaserve serve`."""
        given = {
            "upstream-url": self.upstream.root,
            "upstream-model": self.model,
            "upstream-k": self.k,
            "upstream-tokenizer": self.upstream_tokenizer or "",
            "offsets-root": self.checkpoint.parent,
            "offset": self.checkpoint.name,
            "base": self.base,
            "device": self.device,
            "host": HOST,
            "port": port,
            "workers": 0,  # one process: it starts and ends soonest
            "drain-timeout-s": 1,
            "log-level": "warning",
            "state-folder": state,
        }
        return [f"--{name}={value}" for name, value in given.items() if value != ""]


async def attacked(
    serving: Serving, suite: Suite, work: Path, progress: Progress, settings: Settings = SHORT
) -> dict[str, JsonValue]:
    """The figures, which are in the checkpoint's card then; what an earlier call tried is not tried again.

    `work` keeps the result, and a run that was cut off; the server gets its tables between tokenizers. Raises BadData
    for a suite with nothing to attack, Stop when the server does not start, ClientError.
    """
    if not suite.forget:
        raise BadData("No question says what would give it away: there is nothing to attack the offset with.")
    out = work / f"attack-{_digest(serving.checkpoint, suite, settings)}.json"
    report = LeakageReport.model_validate_json(out.read_bytes()) if out.exists() else None
    if report is None:
        async with _served(serving, work) as url:
            report = await measure(suite, {"after": Address(url)}, settings, out, progress)
    add_to(serving.checkpoint, markdown(None, report, heading(None, report)), None, report)
    return figures(None, report)


def bounded(minutes: float, calls: int) -> Settings:
    """The short run within other bounds."""
    return replace(SHORT, minutes=minutes, calls=calls)


def _digest(checkpoint: Path, suite: Suite, settings: Settings) -> str:
    manifest = read_manifest(checkpoint)
    served = (manifest.content_digest, manifest.strength)
    return digest_of((served, suite.attack_digest, asdict(settings)))[:12]


@asynccontextmanager
async def _served(serving: Serving, work: Path) -> AsyncIterator[str]:
    """The address of a server in front of the black box, ended with its process. Raises Stop."""
    port = free_port()
    key = serving.upstream.key
    environment = {f"{PREFIX}UPSTREAM_KEY": key} if key else {}
    with tempfile.TemporaryDirectory() as state:
        for tables in table_files(work):  # megabytes, and seconds to build
            shutil.copy(tables, state)
        arguments = ("-m", "deltaserve", "serve", *serving.options(port, state))
        async with running("server", *arguments, environment=environment) as child:
            await until_ready(child, f"http://{HOST}:{port}", READY_WITHIN_S)
            yield f"http://{HOST}:{port}"
