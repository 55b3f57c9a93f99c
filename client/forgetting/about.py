"""`deltaserve forget --about NAME`: rows from a name, to be looked through or trained on at once; and their purge."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from deltaserve.client.console import training_options as options
from deltaserve.client.console.terminal import Status, Stop, agreed, note, say, say_json
from deltaserve.client.evaluation.data.items import Suite
from deltaserve.client.evaluation.data.request_suite import suite_of_probes
from deltaserve.offset_models.training.learning.settings import TrainingSettings

if TYPE_CHECKING:
    from deltaserve.offset_models.targets.request.request import Request
    from deltaserve.offset_models.targets.request.rows_folder import Part, Parts, RowsFolder
    from deltaserve.offset_models.training.collecting.source import Source
    from deltaserve.offset_models.training.forget import Plan
    from deltaserve.offset_models.training.rows.dataset import Data, ForgetAnswers


MOST_ANSWER_TOKENS: Final = 24  # an answer is refused at its beginning: many short rows teach more than few long ones
_ALONE: Final = (
    "--about makes the rows of both sides and knows how to decline: leave out --forget, --retain, --held-out-*, "
    "--generic, --refusals, --skip-bad and --no-paraphrases."
)


def check_mode(about: str | None, only_with_about: Mapping[str, object], only_without: Sequence[object]) -> None:
    """Raises Stop for options that do not go together."""
    if about is not None and any(only_without):
        raise Stop(_ALONE, Status.USAGE)
    if about is None and (lonely := [name for name, value in only_with_about.items() if value]):
        raise Stop(f"{lonely[0]} needs --about NAME, what is to be forgotten.", Status.USAGE)


def request_of(about: str, kind: str | None, context: Sequence[Path] | None, calls: int | None, seed: int) -> "Request":
    """Raises BadRequest, Stop."""
    from deltaserve.offset_models.targets.request.request import DEFAULT_CALLS, Request

    if absent := [path for path in context or () if not path.is_file()]:
        raise Stop(f"{absent[0]} is no file.", Status.USAGE)
    return Request(about, cast(Any, kind), tuple(context or ()), DEFAULT_CALLS if calls is None else calls, seed)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The rows of a request, as they are on disk now."""

    folder: "RowsFolder"
    parts: "Parts"

    @property
    def to_hold_out(self) -> str:
        return f"give more --calls, or add rows to choose-forget.jsonl and choose-retain.jsonl in {self.folder.path}"

    def data(self, settings: TrainingSettings, answer_tokens: int, *, open_choice: bool) -> "tuple[Data, Data | None]":
        """Without enough rows to choose by nothing is held out."""
        longest, parts = min(answer_tokens, MOST_ANSWER_TOKENS), self.parts
        held = self._data("choose-forget", "choose-retain", "reference", longest) if parts.chooses else None
        answers = options.answers_needed(settings, judged=held is None, open_choice=open_choice)
        return self._data("forget", "retain", answers, longest), held

    def judged(self, plan: "Plan") -> dict[str, float]:
        """Asked of the packed checkpoint as it is served, and added to its card."""
        from deltaserve.offset_models.progress.progress import Progress
        from deltaserve.offset_models.targets.request.judged import judge_checkpoint

        rows = [*self.parts["judge-forget"], *self.parts["judge-retain"]]
        if not rows:
            return {}
        with Progress(visible=True) as bar:
            return asyncio.run(judge_checkpoint(plan, rows, bar))

    def suite(self, plan: "Plan") -> Suite:
        """Held-out rows of the target, with the words that must not come out; trained rows where none is a question."""
        held = suite_of_probes([*self.parts["judge-forget"], *self.parts["choose-forget"]], plan.data.retain)
        return held if held.forget else suite_of_probes(self.parts["forget"], plan.data.retain)

    def _data(self, forget: "Part", retain: "Part", answers: "ForgetAnswers", longest: int) -> "Data":
        from deltaserve.offset_models.training.rows.dataset import Data
        from deltaserve.offset_models.training.rows.loading import read_refusals

        rows = [[each.row for each in self.parts[part]] for part in (forget, retain)]
        return Data(rows[0], rows[1], read_refusals(), answers, longest)


def prepared(request: "Request", source: "Source", tokenizer: Path, work: Path) -> Prepared:
    """Asks the black box, whose tokenizer lies in that folder, for what is missing.

    Raises DeltaserveError; what was answered is kept.
    """
    from deltaserve.offset_models.progress.progress import Progress
    from deltaserve.offset_models.targets.request.preparing import prepare
    from deltaserve.offset_models.targets.request.rows_folder import RowsFolder

    folder = RowsFolder(work / "rows")
    with Progress(visible=True) as bar:
        record = asyncio.run(prepare(request, source, tokenizer, work, bar, note))
    for sentence in record.notes:
        note(sentence)
    return Prepared(folder, folder.read())


def say_review(made: Prepared, as_json: bool) -> None:
    """Where the rows are, and what to do next."""
    path = made.folder.path
    if as_json:
        say_json({"rows": str(path), "files": [str(file) for file in made.folder.files()]})
        return
    say((path / "summary.md").read_text("utf-8"))
    say(f"The rows are in {path}. Edit them, then run the same command without --review.")


def purge_work(about: str, work: Path, out: Path, yes: bool, as_json: bool) -> None:
    """Deletes what the work of a request holds of its target. Raises Stop, BadRequest, Conflict."""
    from deltaserve.offset_models.targets.request.purging import purge as delete
    from deltaserve.offset_models.targets.request.request import target_name

    about = target_name(about)

    if not yes and not agreed(f"Delete what {work} holds of the target? This cannot be undone."):
        raise Stop("Nothing was deleted.", Status.INTERRUPTED)
    done = delete(work, out, about)
    if as_json:
        say_json({"deleted": [str(path) for path in done.deleted], "left": [str(path) for path in done.left]})
    else:
        say(f"Deleted {len(done.deleted)} files; digests, figures and weights stay.")
    if done.left:
        raise Stop("Words of the target are still in " + ", ".join(map(str, done.left)) + ".", Status.FAILED)
