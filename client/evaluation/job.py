"""One evaluation from beginning to end: servers connected, items measured, the result written."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from deltaserve.client.address import Address
from deltaserve.client.client import AsyncClient
from deltaserve.client.console.interrupts import until_stopped
from deltaserve.client.console.terminal import Status, Stop, note
from deltaserve.client.evaluation.connecting import connect
from deltaserve.client.evaluation.data.items import Suite
from deltaserve.client.evaluation.data.muse import muse_suite
from deltaserve.client.evaluation.data.reading import BadData
from deltaserve.client.evaluation.data.registry_suite import registry_suite
from deltaserve.client.evaluation.data.rwku import rwku_suite
from deltaserve.client.evaluation.data.suites import custom_suite, tofu_suite
from deltaserve.client.evaluation.journal import Journal, OtherRun
from deltaserve.client.evaluation.results import EvaluationResult, Settings, SideName, read_result, write_result
from deltaserve.client.evaluation.running import Advance, Measurements, Subjects, measure_all, result_of
from deltaserve.offset_models.progress.progress import Progress

SuiteName = Literal["tofu", "rwku", "muse", "registry", "custom"]


@dataclass(frozen=True, slots=True)
class Server:
    """A server's address, the model that is asked, and a tokenizer folder where the server has no /tokenize."""

    address: Address
    model: str | None = None
    tokenizer: Path | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What is measured, where, and how. `reference`: a model never trained on the forget set, on the same suite."""

    suite: Suite
    after: Server
    before: Server | None = None
    reference: EvaluationResult | None = None
    max_tokens: int = 200
    logprobs: int = 20
    concurrency: int = 4  # items asked of each server at a time
    keep_text: bool = False
    out: Path = Path("evaluation.json")
    started: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    @property
    def settings(self) -> Settings:
        return Settings(max_tokens=self.max_tokens, logprobs=self.logprobs)

    @property
    def servers(self) -> dict[SideName, Server]:
        return {"after": self.after} if self.before is None else {"before": self.before, "after": self.after}


def chosen_suite(name: SuiteName, data: Path | None, forget: str | None, limit: int | None) -> Suite:
    """Raises BadData, and Stop for options that do not go together."""
    if forget is not None and name not in ("tofu", "rwku"):
        raise Stop("--forget goes with --suite tofu or --suite rwku.", Status.USAGE)
    if name == "registry":
        if data is not None:
            raise Stop("--suite registry takes no --data: it asks about the demo's own register.", Status.USAGE)
        return registry_suite(limit)
    if data is None:
        raise Stop(f"--suite {name} needs --data.", Status.USAGE)
    if name == "tofu":
        return tofu_suite(data, forget, limit)
    if name == "rwku":
        return rwku_suite(data, forget, limit)
    return muse_suite(data, limit) if name == "muse" else custom_suite(data, limit)


def earlier_result(path: Path, suite: Suite) -> EvaluationResult:
    """The result in a file, which must be about the same rows. Raises BadData and Stop."""
    result = read_result(path)
    if result.data_digest != suite.digest:
        raise Stop(f"{path.name} was measured on other rows than these; measure it on the same ones.", Status.USAGE)
    return result


def run(job: Job) -> EvaluationResult:
    """Measures everything and writes the result. Raises ClientError, BadCheckpoint and Stop; the journal stays then."""
    if job.out.is_dir() or not job.out.parent.is_dir():
        raise Stop(f"{job.out} cannot be written: name a file in a folder that is there.", Status.USAGE)
    return until_stopped(lambda: _run(job))


async def _run(job: Job) -> EvaluationResult:
    async with _connected(job) as subjects:
        with _journal(job, subjects) as (journal, measurements):
            if len(measurements):
                note(f"{len(measurements)} measurements of an earlier run are kept.")
            with _progress(subjects, len(job.suite.items)) as advance:
                measured = await measure_all(job.suite, subjects, measurements, job.concurrency, advance)
            result = result_of(job.suite, subjects, measured, job.reference, job.started)
            write_result(result, job.out)
            journal.remove()
    return result


@contextmanager
def _journal(job: Job, subjects: Subjects) -> Iterator[tuple[Journal, Measurements]]:
    try:
        journal = Journal(job.out, _about(job, subjects))
        measurements = Measurements(journal)
    except OtherRun as error:
        raise Stop(error.message, Status.USAGE) from error
    except BadData as error:
        raise Stop(error.message) from error
    with journal:
        yield journal, measurements


@asynccontextmanager
async def _connected(job: Job) -> AsyncIterator[Subjects]:
    async with AsyncExitStack() as stack:
        subjects = {}
        for name, server in job.servers.items():
            client = await stack.enter_async_context(AsyncClient.at(server.address))
            subjects[name] = await connect(client, server.model, server.tokenizer, job.settings, job.keep_text)
        yield subjects


def _about(job: Job, subjects: Subjects) -> dict[str, Any]:
    """Everything that two measurements must have in common to stand in one result."""
    servers = {name: [subject.client.address.root, subject.about.model_dump()] for name, subject in subjects.items()}
    return {
        "data": job.suite.digest,
        "settings": job.settings.model_dump(),
        "text": job.keep_text,
        "servers": servers,
    }


@contextmanager
def _progress(subjects: Subjects, items: int) -> Iterator[Advance]:
    """A bar for every server, with the time left."""
    with Progress(visible=True) as progress, ExitStack() as stack:
        bars = {side: stack.enter_context(progress.stage(side, items)) for side in subjects}
        yield lambda side: bars[side]()
