"""deltaserve demo"""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer

from deltaserve.client.console import shared
from deltaserve.client.console.children import never_silent, refuse_busy, unless_ended
from deltaserve.client.console.interrupts import until_stopped
from deltaserve.client.console.terminal import Status, Stop, new_app, note, quiet, say
from deltaserve.client.demo.ask import before_and_after, examples, has_page, model_of
from deltaserve.client.demo.check import REPORT, check
from deltaserve.client.demo.servers import (
    DEFAULT_K,
    OFFSET,
    Correction,
    OffsetName,
    Tail,
    black_box,
    checked_weights,
    ready,
    server,
)
from deltaserve.client.demo.show import show_answers, show_report
from deltaserve.offset_models.demo.manifest import WEIGHTS
from deltaserve.offset_models.demo.process import HOST

app = new_app()
PLAYGROUND = "/playground"
EACH = 3  # questions of each kind that are shown


@app.command()
def demo(
    check_figures: Annotated[
        bool, typer.Option("--check", help=f"Measure instead of staying; writes {REPORT}; the exit status judges.")
    ] = False,
    build_weights: Annotated[bool, typer.Option("--build", help="Make the demo's models again, from a seed.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where --build writes; default: where the demo reads.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of --build; default: the shipped build's.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The server's port.")] = 8000,
    black_box_port: Annotated[int, typer.Option(min=1, max=65535, help="The black box's port.")] = 8001,
    k: Annotated[int, typer.Option("--k", min=1, help="How many alternatives the server asks for.")] = DEFAULT_K,
    tail: Annotated[Tail, typer.Option(help="What is assumed of the tokens beyond them.")] = "impute",
    offset: Annotated[
        OffsetName, typer.Option(help="Of which pair; the tokenizer of the bridged one is not the black box's.")
    ] = OFFSET,
    questions: Annotated[int, typer.Option(min=1, help="Questions of each kind that --check asks.")] = 60,
    weights: Annotated[Path, typer.Option(help="Folder of another build.", show_default=False)] = WEIGHTS,
    as_json: shared.AsJson = False,
) -> None:
    """Run the embedded black box and a server; show before and after.

    Both run as processes of their own on 127.0.0.1 until Ctrl-C. The black box memorised a register of made-up people;
    the server's offset erases some of them. --check uses free ports and ends by itself.
    """
    if build_weights:
        _build(out or weights, seed)
        return
    if out is not None or seed is not None:
        raise Stop("--out and --seed go with --build.", Status.USAGE)
    if not check_figures:
        _check_ports(port, black_box_port)
    checked_weights(weights, offset)
    how = Correction(k, tail, offset)
    if check_figures:
        _check(weights, how, questions, as_json)
    else:
        _stay(weights, how, port, black_box_port, as_json)


def _check_ports(port: int, black_box_port: int) -> None:
    """Checks both ports before anything is started. Raises Stop, AddressUnusable."""
    if port == black_box_port:
        raise Stop(
            f"--port and --black-box-port are both {port}: the server and the black box need one each.", Status.USAGE
        )
    refuse_busy(HOST, port, "server", "--port")
    refuse_busy(HOST, black_box_port, "black box", "--black-box-port")


def _build(out: Path, seed: int | None) -> None:
    from deltaserve.offset_models.demo.pipeline.build import build

    quiet()
    manifest = build(out) if seed is None else build(out, seed)
    for name, figure in manifest.figures.items():
        say(f"{name}  {figure:.3f}")
    note(f"Built in {sum(manifest.seconds.values()):.0f} s: {out}")


def _check(weights: Path, how: Correction, questions: int, as_json: bool) -> None:
    report = until_stopped(lambda: check(weights, how, questions))
    report.write(REPORT)
    show_report(report, as_json)
    note(f"{sum(report.seconds.values()):.0f} s; written to {REPORT}")
    if not all(report.holds.values()):
        raise Stop("Not every claim holds.")


def _stay(weights: Path, how: Correction, port: int, black_box_port: int, as_json: bool) -> None:
    try:
        until_stopped(lambda: _run(weights, how, port, black_box_port, as_json))
    except Stop as stop:
        if stop.status is not Status.INTERRUPTED:
            raise
        note("Both stopped.")  # Ctrl-C is how this command ends


async def _run(weights: Path, how: Correction, port: int, black_box_port: int, as_json: bool) -> None:
    began = time.perf_counter()
    async with (
        black_box(weights, black_box_port, how.k) as box,
        server(weights, port, box.url, how, [question.text for _, question in examples(EACH)]) as served,
    ):
        note("Starting the black box and the server …")
        children = (box.child, served.child)
        async with never_silent(lambda seconds: f"  … {seconds:.0f} s: torch and the models are being read"):
            await unless_ended(ready(box, served), *children)
        note(f"Both answer after {time.perf_counter() - began:.1f} s ({how}).")
        pairs = await unless_ended(before_and_after(box, served, EACH), *children)
        links = {"black_box": box.url, "server": served.url, "admin_key": served.admin_key}
        if await has_page(served, PLAYGROUND):
            # The key is in the fragment, which browsers keep to themselves.
            links["playground"] = f"{served.url}{PLAYGROUND}#admin_key={served.admin_key}"
        show_answers(pairs, links, await model_of(served), as_json)
        note("Ctrl-C stops both.")
        await unless_ended(asyncio.Event().wait(), *children)
