"""Every attack on every item against each server, then a verdict. All through the public API."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path

from deltaserve.client.address import Address
from deltaserve.client.evaluation.attacks.run import Progress, Run, Settings
from deltaserve.client.evaluation.data.items import Suite
from deltaserve.client.evaluation.data.names import Named, digest
from deltaserve.client.evaluation.journal import Journal
from deltaserve.client.evaluation.leakage_results import LeakageReport, write_readable
from deltaserve.client.evaluation.target import Target


async def measure(
    suite: Suite,
    addresses: Mapping[str, Address],
    settings: Settings,
    out: Path,
    progress: Progress,
    names: Sequence[Named] = (),
) -> LeakageReport:
    """The whole suite; writes `out`. A run that was cut off goes on from `out` + ".partial".

    `addresses`: the servers by the names that the report gives them. `names`: whose membership of the list of erased
    ones is guessed. Raises Unreachable or ServerFailed when a server does not answer; BadData when what is left of an
    earlier run is of another one.
    """
    settings.chosen()
    async with AsyncExitStack() as stack:
        targets = {
            name: await stack.enter_async_context(Target.connected(name, address))
            for name, address in addresses.items()
        }
        # What answers on each side: another offset, or another model, is another run.
        identities = {name: [target.model, target.fingerprint] for name, target in targets.items()}
        run = {"suite": suite.attack_digest, "settings": asdict(settings), "sides": identities, "names": digest(names)}
        with Journal(out, run) as journal:
            report = await Run(suite, settings, targets, journal, progress, names).report()
    write_readable(out, report.model_dump_json(indent=1) + "\n")
    journal.remove()
    return report
