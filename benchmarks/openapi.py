"""Every route of the served OpenAPI document, asked by schemathesis what it takes and what it does not take.

python -m benchmarks.openapi [--examples 450] [--seed 1]

A real server with the demo's offset, in front of the embedded black box; its admin routes are open to schemathesis. A
server error, a status, a content type or a body that the document does not know is a failure, and the exit status is
1. Writes build/bench/openapi.json, and schemathesis' own report beside it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

from benchmarks.support import report
from benchmarks.support.processes import black_box, deltaserve

ADMIN_KEY: Final = "schemathesis-admin-key"
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
PHASES: Final = ("examples", "coverage", "fuzzing")
_CONTEXT: Final = 64  # tokens of prompt and answer: an answer whose end is not told is short
_EVENTS: Final = "openapi-events.ndjson"


def main() -> None:
    args = _arguments()
    report.BUILD.mkdir(parents=True, exist_ok=True)
    events = (report.BUILD / _EVENTS).absolute()
    with tempfile.TemporaryDirectory() as folder:
        bounds = {
            "workers": 0,
            "admin-key": ADMIN_KEY,
            "admin-requests-per-minute": 1_000_000,
            "state-folder": folder,
            "max-context": _CONTEXT,
            "max-n": 2,
            "max-prompts": 4,
        }
        with (
            black_box() as box,
            deltaserve(box.url, *(f"--{name}={value}" for name, value in bounds.items())) as running,
        ):
            status = subprocess.run(_command(running.url, events, args), check=False, cwd=report.BUILD).returncode
            still = running.metrics()
    figures = {**figures_of(events), "defects_in_the_log": _defects(still), "exit_status": status}
    report.show("openapi", ("figure", "value"), list(figures.items()))
    print(report.write("openapi", figures, vars(args), {}))
    sys.exit(1 if status or figures["cases"] < args.least else 0)


def _command(url: str, events: Path, args: argparse.Namespace) -> list[str]:
    options = {
        "max-examples": args.examples,
        "seed": args.seed,
        "workers": args.at_once,
        "checks": ",".join(CHECKS),
        "phases": ",".join(PHASES),
        "header": f"Authorization: Bearer {ADMIN_KEY}",
        "request-timeout": 120,
        "suppress-health-check": "all",
        "report": "ndjson",
        "report-ndjson-path": events,
        "warnings": "off",
    }
    command = [str(Path(sys.executable).with_name("st")), "run", f"{url}/openapi.json", "--continue-on-failure"]
    return [*command, *(f"--{name}={value}" for name, value in options.items())]


def figures_of(events: Path) -> dict[str, Any]:
    """What schemathesis did, counted in its own record."""
    cases, statuses, failed = 0, Counter[str](), Counter[str]()
    for line in events.open():
        for scenario in _scenarios(json.loads(line)):
            cases += len(scenario.get("cases", {}))
            for seen in scenario.get("interactions", {}).values():
                if answer := seen.get("response"):
                    statuses[f"answers_{answer['status_code'] // 100}xx"] += 1
            for checks in scenario.get("checks", {}).values():
                failed.update(one["name"] for one in checks if one["status"] == "failure")
    return {"cases": cases, **dict(sorted(statuses.items())), "failures": sum(failed.values()), **failed}


def _scenarios(event: dict[str, Any]) -> list[dict[str, Any]]:
    finished = event.get("ScenarioFinished")
    return [] if finished is None else [finished["recorder"]]


def _defects(metrics: dict[str, float]) -> float:
    """Answers with a status of 500, which are defects of ours."""
    return sum(
        value for name, value in metrics.items() if name.startswith('deltaserve_http_responses_total{status="500"')
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=450, help="of each operation, in each phase, at most")
    parser.add_argument("--least", type=int, default=10_000, help="cases without which the run does not count")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
