"""What is shipped and what it stands on: a wheel built twice, its digest, the licences of what runs, a list of it all.

python -m benchmarks.supply --tools build/supply/tools [--audit]

The tools (build, cyclonedx-py, pip-licenses, pip-audit, hadolint) have an environment of their own, so that they change
nothing of what they look at. `--audit` asks a service for known vulnerabilities, over the network. Writes
build/supply/supply.json, and beside it the wheel, licences.json and sbom.cdx.json. The exit status is 1 where two
builds of one commit differ, or something that runs has a licence that is not among those allowed.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.support import report

OUT: Final = Path("build/supply")
EXTRAS: Final = ("", "redis")  # of deltaserve: what the container image has
_UMASK: Final = 0o022  # a wheel keeps the modes of files
# Words of licences that let a program be used and passed on beside others, changed or not.
ALLOWED: Final = (
    "apache", "bsd", "mit", "isc", "python software foundation", "psf", "mpl-2.0", "mozilla public license 2.0",
    "unlicense", "0bsd", "bsl-1.0", "hpnd", "cnri", "zlib", "cc0", "public domain",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tools:
    """Commands of the tools' own environment."""

    folder: Path

    def run(self, name: str, *arguments: str, **more: Any) -> str:
        """What it prints. Raises CalledProcessError."""
        done = subprocess.run(
            [str(self.folder / "bin" / name), *arguments], check=True, stdout=subprocess.PIPE, text=True, **more
        )
        return str(done.stdout)


def main() -> None:
    args = _arguments()
    OUT.mkdir(parents=True, exist_ok=True)
    tools = Tools(args.tools.absolute())
    wheels = [built(tools, name) for name in ("first", "second")]
    packages = sorted(closure("deltaserve", EXTRAS))
    rows = licences(tools, packages)
    parts = listed(tools)
    other = [row["Name"] for row in rows if not allowed(row["License"])]
    figures = {
        "wheel": wheels[0].name,
        "wheel_sha256": sha256(wheels[0]),
        "wheel_is_reproducible": sha256(wheels[0]) == sha256(wheels[1]),
        "packages_that_run": len(packages),
        "with_another_licence": ", ".join(other) or "none",
        "parts_in_the_sbom": parts,
    }
    report.show(
        "licences", ("package", "version", "licence"), [[r["Name"], r["Version"], r["License"][:60]] for r in rows]
    )
    report.show("supply", ("figure", "value"), list(figures.items()))
    (OUT / "supply.json").write_text(json.dumps(figures, indent=1) + "\n")
    if args.audit:
        print(tools.run("pip-audit", "--path", str(_site_packages())))
    sys.exit(1 if other or not figures["wheel_is_reproducible"] else 0)


def built(tools: Tools, name: str) -> Path:
    """The wheel of the last commit, in a folder of its own; times of files are the commit's, modes plain ones."""
    out = OUT / name
    shutil.rmtree(out, ignore_errors=True)
    at = subprocess.run(["git", "log", "-1", "--format=%ct"], check=True, capture_output=True, text=True).stdout.strip()
    environment = {**os.environ, "SOURCE_DATE_EPOCH": at, "PYTHONHASHSEED": "random"}
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", "--format=tar", "HEAD"], check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], check=True, input=archive, umask=_UMASK)
        where = ("--outdir", str(out.absolute()), folder)
        tools.run("python", "-m", "build", "--wheel", *where, env=environment, umask=_UMASK)
    (wheel,) = out.glob("*.whl")
    return wheel


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def closure(name: str, extras: tuple[str, ...]) -> set[str]:
    """Every installed distribution that it needs, by its canonical name, itself too."""
    found: set[str] = set()
    waiting = [(canonicalize_name(name), extras)]
    while waiting:
        one, wanted = waiting.pop()
        found.add(one)
        waiting += [(need, more) for need, more in _needs(one, wanted) if need not in found]
    return found


def _needs(name: str, extras: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for line in distribution(name).requires or ():
        need = Requirement(line)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras):
            yield canonicalize_name(need.name), ("", *need.extras)


def licences(tools: Tools, packages: list[str]) -> list[dict[str, str]]:
    """Name, Version and License of each; written as licences.json."""
    options = ["--python", sys.executable, "--from=mixed", "--format=json", "--packages", *packages]
    rows: list[dict[str, str]] = json.loads(tools.run("pip-licenses", *options))
    (OUT / "licences.json").write_text(json.dumps(rows, indent=1) + "\n")
    return rows


def allowed(licence: str) -> bool:
    """Whether it is one of those: every part of what is joined by AND, one of those that there is a choice of."""
    parts = re.split(r"\s+and\s+", licence.lower().replace("(", "").replace(")", ""))
    return all(any(re.search(rf"\b{re.escape(word)}\b", part) for word in ALLOWED) for part in parts)


def listed(tools: Tools) -> int:
    """The software bill of materials of this environment, as CycloneDX JSON; how many parts it has."""
    path = OUT / "sbom.cdx.json"
    tools.run(
        "cyclonedx-py", "environment", "--output-reproducible", "--of=JSON", "--pyproject=pyproject.toml",
        "-o", str(path), sys.executable,
    )  # fmt: skip
    return len(json.loads(path.read_text())["components"])


def _site_packages() -> Path:
    return Path(str(distribution("torch").locate_file("")))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", type=Path, required=True, help="environment with build, cyclonedx-bom, pip-licenses")
    parser.add_argument("--audit", action="store_true", help="known vulnerabilities, over the network")
    return parser.parse_args()


if __name__ == "__main__":
    main()
