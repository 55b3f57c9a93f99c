"""Options that `collect`, `train` and `forget` share: where rows come from, and the settings of a run."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from deltaserve.client.console.generated import Flag, default_text_of, given, without_none
from deltaserve.client.console.terminal import Status, Stop, note
from deltaserve.offset_models.training.learning.settings import TrainingSettings

if TYPE_CHECKING:
    from deltaserve.offset_models.training.rows.dataset import Data
    from deltaserve.offset_models.training.rows.row import Row

Forget = Annotated[
    list[str] | None, typer.Option(help="JSONL of what must go, or hf:NAME[,CONFIG][:SPLIT]; several are joined.")
]
Retain = Annotated[
    list[str] | None, typer.Option(help="The same of what must stay: neighbours of the forget set, for example.")
]
Generic = Annotated[
    int, typer.Option(min=0, help="Add so many of the package's own generic prompts to the retain set.")
]
HeldForget = Annotated[
    list[str] | None, typer.Option("--held-out-forget", help="The same, to be judged by: other wordings of the facts.")
]
HeldRetain = Annotated[list[str] | None, typer.Option("--held-out-retain", help="The same of what must stay.")]
Refusals = Annotated[
    Path | None, typer.Option(help="JSONL of {text}: what is answered instead. Default: the package's own.")
]
Paraphrases = Annotated[bool, typer.Option(help="Take the rows' paraphrases as well.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows out instead of stopping.")]
Base = Annotated[Path, typer.Option(file_okay=False, help="Folder of the small model that the pair shares.")]
UpstreamTokenizer = Annotated[
    Path | None,
    typer.Option(
        "--upstream-tokenizer",
        file_okay=False,
        help="Folder of the black box's tokenizer, where the base has another one (docs/bridge.md).",
    ),
]
OptionValues = Annotated[
    list[str] | None,
    typer.Option("--option", help="NAME=VALUE of the objective: beta, gamma, rpo_alpha; may come several times."),
]
Targets = Annotated[
    list[str] | None, typer.Option("--target", help="Linear layers that the LoRA changes; default: all but lm_head.")
]
Device = Annotated[str, typer.Option(help="Where to train: cpu, cuda, or auto: the GPU where there is one.")]
Tensorboard = Annotated[
    Path | None, typer.Option(file_okay=False, help="Write event files for TensorBoard into this folder.")
]
Plot = Annotated[bool, typer.Option("--plot", help="Draw the run: run.png and run.svg in its folder.")]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where rows come from."""

    forget: Sequence[str]
    retain: Sequence[str]
    generic: int = 0
    refusals: Path | None = None
    skip_bad: bool = False
    paraphrases: bool = True

    def data(self, answers: Literal["reference", "refusal", "both"], answer_tokens: int) -> "Data":
        """Both sides as rows. Raises BadRow."""
        from deltaserve.offset_models.training.rows.dataset import Data
        from deltaserve.offset_models.training.rows.loading import REFUSALS, generic_prompts, read_refusals

        forget, retain = self._rows(self.forget, answered=True), self._rows(self.retain, answered=False)
        refusals = read_refusals(self.refusals or REFUSALS)
        return Data(forget, [*retain, *generic_prompts(self.generic)], refusals, answers, answer_tokens)

    def _rows(self, sources: Sequence[str], *, answered: bool) -> "list[Row]":
        from deltaserve.offset_models.training.rows.loading import load

        rows = []
        for source in sources:
            loaded = load(source, answered=answered)
            loaded.check(self.skip_bad)
            note_left_out([f"{loaded.name}, {sentence}." for sentence in loaded.bad])
            rows += loaded.rows
        return rows if self.paraphrases else [replace(row, paraphrases=()) for row in rows]


def held_out(
    forget: Sequence[str] | None, retain: Sequence[str] | None, refusals: Path | None, skip_bad: bool
) -> Sources | None:
    """Rows to be judged by; None when no file is given. One side alone is a usage error."""
    if not forget and not retain:
        return None
    if not forget or not retain:
        raise Stop("Give both --held-out-forget and --held-out-retain, or neither.", Status.USAGE)
    return Sources(forget, retain, 0, refusals, skip_bad)


def sources(
    forget: Sequence[str] | None,
    retain: Sequence[str] | None,
    generic: int,
    refusals: Path | None,
    skip_bad: bool,
    paraphrases: bool,
) -> Sources:
    """Rows to train on. Raises Stop when a side is missing."""
    if not forget:
        raise Stop("Give --forget, a JSONL file of what must go.", Status.USAGE)
    if not retain and not generic:
        raise Stop(
            "Give --retain, a JSONL file of what must stay, or --generic N to keep the answers to N generic prompts.",
            Status.USAGE,
        )
    return Sources(forget, retain or (), generic, refusals, skip_bad, paraphrases)


def answers_needed(
    settings: TrainingSettings, *, judged: bool, open_choice: bool = False
) -> Literal["reference", "refusal", "both"]:
    """Which answers of forget rows are scored.

    `judged`: the training rows are those of the evaluations too. `open_choice`: an objective that needs both may be
    tried after the one that is named.
    """
    wanted = {*settings.chosen.collected, *(["reference"] if judged or open_choice else [])}
    if len(wanted) == 2:
        return "both"
    return "refusal" if "refusal" in wanted else "reference"


def note_left_out(bad: Sequence[str]) -> None:
    """Says which rows are left out, and how many they are."""
    for sentence in bad:
        note(f"Left out: {sentence}")
    if len(bad) > 1:
        note(f"Left out: {len(bad)} rows.")


def setting_flags() -> list[Flag]:
    """One for each annotated field of TrainingSettings."""
    defaults = {field.name: field.default for field in fields(TrainingSettings)}
    hints = get_type_hints(TrainingSettings, include_extras=True)
    return [
        Flag(name, _plain(hint), hint.__metadata__[0], default_text_of(defaults[name]))
        for name, hint in hints.items()
        if get_origin(hint) is Annotated
    ]


def read_settings(
    values: dict[str, Any], options: Sequence[str] | None, targets: Sequence[str] | None
) -> TrainingSettings:
    """What the command line says, over the defaults. Raises BadRequest, Stop."""
    more: dict[str, Any] = {"options": dict(map(_option, options or ()))}
    if targets:
        more["targets"] = tuple(targets)
    return TrainingSettings(**given(values), **more)


def _plain(hint: Any) -> Any:
    return without_none(get_args(hint)[0])


def _option(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise Stop(f"{text}: an option of the objective is NAME=VALUE.", Status.USAGE) from None
