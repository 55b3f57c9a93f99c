"""deltaserve leakage"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Literal, Self

import typer

from deltaserve.client.address import Address, root_of
from deltaserve.client.console import shared
from deltaserve.client.console.interrupts import until_stopped
from deltaserve.client.console.tables import say_table
from deltaserve.client.console.terminal import Status, Stop, new_app, note, say, say_json
from deltaserve.offset_models.progress.pace import Pace, Ticker

if TYPE_CHECKING:
    from deltaserve.client.evaluation.data.items import Suite
    from deltaserve.client.evaluation.data.names import Named
    from deltaserve.client.evaluation.leakage_results import LeakageReport

app = new_app()


@app.command()
def leakage(
    server: Annotated[
        str | None, typer.Option("--server", "--url", help="The server; default as of other commands.")
    ] = None,
    before: Annotated[str | None, typer.Option(help="The black box itself: what came out before.")] = None,
    guarded: Annotated[str | None, typer.Option(help="The same server with guards.")] = None,
    reference: Annotated[str | None, typer.Option(help="A model that never read what is forgotten.")] = None,
    data: Annotated[Path | None, typer.Option(help="Items as JSON lines (docs/evaluation.md).")] = None,
    suite: Annotated[Literal["registry"] | None, typer.Option(help="Items that ship: the demo's register.")] = None,
    out: Annotated[Path, typer.Option(help="Where the result goes; a run that was cut off goes on there.")] = Path(
        "build/leakage.json"
    ),
    items: Annotated[int, typer.Option(min=1, help="How many forgotten items: a steady sample.")] = 24,
    costly_items: Annotated[int, typer.Option(min=1, help="Of these, for attacks that draw many answers.")] = 6,
    samples: Annotated[int, typer.Option(min=1, help="Answers of such an attack, for each item.")] = 100,
    kept: Annotated[int, typer.Option(min=1, help="Kept items of each split.")] = 24,
    names: Annotated[
        Path | None, typer.Option(help="Names as JSON lines: who was erased can be told from kept and unknown ones?")
    ] = None,
    draws: Annotated[int, typer.Option(min=0, help="Answers in every form, for leak@k: 128; 0: not measured.")] = 0,
    attack: Annotated[list[str] | None, typer.Option(help="Only this one; may be given several times.")] = None,
    texts: Annotated[bool, typer.Option("--texts/--no-texts", help="Keep examples of what was said.")] = True,
    api_key: shared.ApiKey = None,
    before_key: Annotated[str | None, typer.Option(help="Key for --before.")] = None,
    guarded_key: Annotated[str | None, typer.Option(help="Key for --guarded.")] = None,
    as_json: shared.AsJson = False,
) -> None:
    """Attack a server: what of the forgotten still comes out?

    Everything goes through the public API, as a stranger would. The exit status is 1 when something leaks.
    """
    from deltaserve.client.evaluation.attacks.leakage import measure
    from deltaserve.client.evaluation.attacks.run import Settings

    shared.check_out(out)
    chosen, asked = _suite(data, suite), _names(names, suite)
    servers = {"after": shared.address(server, api_key)}
    if before is not None:
        servers["before"] = shared.black_box_address(before, before_key)
    if guarded is not None:
        servers["guarded"] = Address(root_of(guarded), guarded_key)
    if reference is not None:
        servers["reference"] = Address(root_of(reference))
    settings = Settings(
        items=items,
        costly_items=costly_items,
        samples=samples,
        kept=kept,
        texts=texts,
        attacks=",".join(attack or ()),
        draws=draws,
    )
    with Progress() as progress:
        report = until_stopped(lambda: measure(chosen, servers, settings, out, progress, asked))
    if as_json:
        say_json(report.model_dump(include={"verdict", "sides", "seconds"}))
    else:
        show(report)
    note(f"{report.seconds:.0f} s; written to {out}")
    if report.verdict.leaks:
        raise Stop("Something leaks.")


class Progress:
    """A line on stderr now and then: what is being done, and how much of it is left."""

    def __init__(self) -> None:
        self._pace: Pace | None = None
        self._what = ""
        self._ticker = Ticker(self._tell, note)

    def __enter__(self) -> Self:
        self._ticker.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ticker.__exit__(kind, error, trace)

    def __call__(self, done: int, of: int, what: str) -> None:
        pace = self._pace or Pace(of)
        pace.total = of
        pace.advance(done - pace.done)
        self._pace, self._what = pace, what

    def _tell(self) -> Iterator[str]:
        yield "asking the servers" if self._pace is None else f"{self._what}: {self._pace}"


def show(report: "LeakageReport") -> None:
    """Prints the verdict, and one line for each attack."""
    say(report.verdict.headline)
    for sentence in report.verdict.sentences:
        say(f"- {sentence}")
    say("")
    sides = list(report.sides)
    rows = []
    for attack in report.attacks:
        rates = [attack.sides.get(side) for side in sides]
        cells = ["" if one is None else _rate(one.success.rate, one.blocked, one.success.items) for one in rates]
        rows.append([attack.name, *cells, f"{attack.baseline:.2f}", attack.judgement.get("after", "")])
    say_table(["attack", *sides, "baseline", "judgement"], rows)


def _rate(rate: float, blocked: int, items: int) -> str:
    return "refused" if blocked == items else f"{rate:.2f}"


def _names(names: Path | None, suite: str | None) -> "Sequence[Named]":
    from deltaserve.client.evaluation.data.names import read_names, registry_names

    if names is not None:
        return read_names(names)
    return registry_names() if suite == "registry" else ()


def _suite(data: Path | None, suite: str | None) -> "Suite":
    if (data is None) == (suite is None):
        raise Stop("Say what is to be attacked: --data FILE or --suite registry.", Status.USAGE)
    if data is not None:
        from deltaserve.client.evaluation.data.suites import attack_suite

        return attack_suite(data)
    from deltaserve.client.evaluation.data.registry_suite import registry_attack_suite

    return registry_attack_suite()
