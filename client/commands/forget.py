"""deltaserve forget"""

from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from deltaserve.client.address import ADMIN_KEY_VARIABLE, URL_VARIABLE, Address
from deltaserve.client.console import shared
from deltaserve.client.console import training_options as options
from deltaserve.client.console.generated import accepts
from deltaserve.client.console.terminal import new_app, note, quiet
from deltaserve.client.forgetting.about import check_mode, prepared, purge_work, request_of, say_review
from deltaserve.client.forgetting.activation import activate as bring
from deltaserve.client.forgetting.activation import admin_at
from deltaserve.client.forgetting.given import FromFiles, RowsGiven
from deltaserve.client.forgetting.shown import DEFAULT_K, announce, show

if TYPE_CHECKING:
    from deltaserve.client.evaluation.data.items import Suite
    from deltaserve.offset_models.training.forget import ForgetResult, Plan

app = new_app()
ABOUT_MINUTES: Final = 30.0
ABOUT: Final = MappingProxyType(  # where nothing else is named
    {
        "objective": "idk_generic",  # a name's rows break off in few places: their own answers teach the others
        "keep": 0.95,  # what is to be forgotten weighs as much as what is near it
    }
)


@app.command()
@accepts(options.setting_flags())
def forget(
    name: Annotated[str, typer.Option(help="The offset's name; its checkpoint's folder is called so too.")],
    base: options.Base,
    upstream_tokenizer: options.UpstreamTokenizer = None,
    about: Annotated[
        str | None, typer.Option(help="Whom or what to forget, by its name: rows are made of what the black box says.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="What that is: person, work, organisation, …; default: the black box is asked.")
    ] = None,
    context: Annotated[
        list[Path] | None, typer.Option(help="A document about it (txt, md, html, jsonl); may come several times.")
    ] = None,
    calls: Annotated[
        int | None, typer.Option(help="With --about: calls to the black box before training, at most; default: 1500.")
    ] = None,
    review: Annotated[
        bool, typer.Option("--review", help="With --about: write the rows and stop, so that you can edit them.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="With --about: delete what WORK holds of it, and train nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Purge without asking.")] = False,
    forget: options.Forget = None,
    retain: options.Retain = None,
    generic: options.Generic = 0,
    held_out_forget: options.HeldForget = None,
    held_out_retain: options.HeldRetain = None,
    refusals: options.Refusals = None,
    paraphrases: options.Paraphrases = True,
    skip_bad: options.SkipBad = False,
    upstream: Annotated[
        str | None, typer.Option("--upstream", help=f"The black box; else {shared.UPSTREAM_VARIABLE}.")
    ] = None,
    upstream_key: Annotated[
        str | None,
        typer.Option(help=f"Its API key; else {shared.UPSTREAM_KEY_VARIABLE}, for {shared.UPSTREAM_VARIABLE} only."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Its model name; default: the only one it lists.")] = None,
    k: Annotated[
        int, typer.Option("--k", min=1, help="How many alternatives to ask for at each position.")
    ] = DEFAULT_K,
    concurrency: Annotated[int, typer.Option(min=1, help="Calls at a time.")] = 4,
    answer_tokens: Annotated[int, typer.Option(min=1, help="Longest answer that is asked for.")] = 128,
    choosing_questions: Annotated[
        int,
        typer.Option(min=0, help="At most so many held-out forget rows are asked to choose among strengths; 0: none."),
    ] = 64,
    questions: Annotated[int, typer.Option(min=1, help="Rows of each side that are asked at the end.")] = 64,
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of checkpoints, as a server's offsets root: OUT/NAME.")
    ] = Path("offsets"),
    work: Annotated[
        Path | None, typer.Option(file_okay=False, help="What is collected and trained; default: OUT/.work/NAME.")
    ] = None,
    licence: Annotated[str, typer.Option(help="SPDX identifier of the weights' licence.")] = "LicenseRef-unknown",
    option: options.OptionValues = None,
    target: options.Targets = None,
    device: options.Device = "auto",
    tensorboard: options.Tensorboard = None,
    plot: options.Plot = False,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="For collecting, training and choosing: steps, batches, evaluations and questions are chosen to fit, "
            "and a second objective is tried where the first one leaves too much. Default: 30 with --about, without "
            "--steps; else no bound.",
        ),
    ] = None,
    attack: Annotated[
        bool | None,
        typer.Option(
            "--attack/--no-attack",
            help="Attack the new offset for a short while; its card says what came out. Default: with --about.",
        ),
    ] = None,
    attack_minutes: Annotated[float, typer.Option(min=0.1, help="No attack is begun after them.")] = 5.0,
    attack_calls: Annotated[int, typer.Option(min=1, help="The same of requests to the served offset.")] = 400,
    activate: Annotated[
        bool, typer.Option("--activate", help="Load it into a running server and activate it.")
    ] = False,
    admin_url: Annotated[
        str | None, typer.Option(help=f"That server; else {URL_VARIABLE}. Its offsets root is OUT.")
    ] = None,
    admin_key: Annotated[str | None, typer.Option(help=f"Its admin key; else {ADMIN_KEY_VARIABLE}.")] = None,
    as_json: shared.AsJson = False,
    **values: Any,
) -> None:
    """Collect, train, evaluate, pack and activate in one go.

    From texts that must go to a served version. A command that was stopped goes on where it was; what is done is not
    done again. The checkpoint holds weights, digests and figures, no text; `deltaserve collect --purge` empties what
    WORK keeps of the forget set.
    """
    quiet()
    from deltaserve.offset_models.checkpoints.manifest import check_name

    given = {"--kind": kind, "--context": context, "--calls": calls, "--review": review, "--purge": purge}
    files = [forget, retain, held_out_forget, held_out_retain, generic, refusals, skip_bad, not paraphrases]
    check_mode(about, given, files)
    check_name(name)
    work = work or out / ".work" / name
    if about is not None and purge:
        purge_work(about, work, out / name, yes, as_json)
        return
    from deltaserve.offset_models.training.bridging.reading import check_tokenizers
    from deltaserve.offset_models.training.collecting.source import Source
    from deltaserve.offset_models.training.forget import Plan

    check_tokenizers(upstream_tokenizer, base)
    address = shared.upstream_address(upstream, upstream_key)
    admin = admin_at(admin_url, admin_key) if activate and not review else None
    if about is not None and minutes is None and values.get("steps") is None:
        minutes = ABOUT_MINUTES
    if about is not None:
        values |= {name: value for name, value in ABOUT.items() if values.get(name) is None}
    settings = options.read_settings(values, option, target)
    source = Source(address.root, model or "", k, concurrency, api_key=address.key)
    if about is None:
        rows: RowsGiven = FromFiles(
            options.sources(forget, retain, generic, refusals, skip_bad, paraphrases),
            options.held_out(held_out_forget, held_out_retain, refusals, skip_bad),
        )
    else:
        rows = prepared(
            request_of(about, kind, context, calls, settings.seed), source, upstream_tokenizer or base, work
        )
        if review:
            say_review(rows, as_json)
            return
    data, held = rows.data(settings, answer_tokens, open_choice=minutes is not None)
    plan = Plan(
        name=name,
        data=data,
        held=held,
        base=base,
        source=source,
        settings=settings,
        work=work,
        out=out / name,
        licence=licence,
        skip_bad=skip_bad,
        choosing=choosing_questions,
        questions=questions,
        answer_tokens=answer_tokens,
        device=device,
        upstream_tokenizer=upstream_tokenizer,
        minutes=minutes,
    )
    result = _make(plan, tensorboard)
    if plot:
        from deltaserve.offset_models.training.learning.reporting import plot as draw

        draw(result.run.metrics(), result.run.path, f"{name}: {settings.objective}")
    card = {**(result.manifest.card or {}), **rows.judged(plan)}
    if attack or (attack is None and about is not None):
        suite = rows.suite(plan)
        if attack or suite.forget:
            card |= _attacked(suite, plan, address, attack_minutes, attack_calls)
        else:  # documents may have brought running text alone
            note("No row says what would give it away in a chat: the offset was not attacked.")
    card.pop("markdown", None)  # the page of an earlier attack: `deltaserve report --checkpoint` shows it
    loaded = None if admin is None else bring(admin, name)
    show(plan, result, card, loaded, rows.to_hold_out, as_json)


def _make(plan: "Plan", tensorboard: Path | None) -> "ForgetResult":
    from deltaserve.offset_models.progress.progress import Progress
    from deltaserve.offset_models.training.forget import forget as make
    from deltaserve.offset_models.training.learning.reporting import all_reports
    from deltaserve.offset_models.training.learning.reporting import tensorboard as event_files
    from deltaserve.offset_models.training.within import forget_within

    with ExitStack() as stack:
        bar = stack.enter_context(Progress(visible=True))
        reports = [] if tensorboard is None else [stack.enter_context(event_files(tensorboard, 1))]
        if plan.minutes is not None:
            return forget_within(plan, bar, announce, all_reports(*reports), note)
        return make(plan, bar, announce, all_reports(*reports))


def _attacked(suite: "Suite", plan: "Plan", upstream: Address, minutes: float, calls: int) -> dict[str, Any]:
    """Serves the checkpoint and tries to get at what it was made to forget; the figures, which its card has too."""
    from deltaserve.client.commands.leakage import Progress
    from deltaserve.client.console.interrupts import until_stopped
    from deltaserve.client.evaluation.short_attack import Serving, attacked, bounded

    source = plan.source
    serving = Serving(plan.out, plan.base, upstream, source.model, source.k, plan.device, plan.upstream_tokenizer)
    with Progress() as progress:
        return until_stopped(lambda: attacked(serving, suite, plan.work, progress, bounded(minutes, calls)))
