"""The parts of `make supply` that decide."""

import pytest

from benchmarks.supply import allowed, closure


@pytest.mark.parametrize(
    "licence",
    ["MIT License", "Apache-2.0", "Apache 2.0 License", "BSD-3-Clause", "MPL-2.0 AND MIT", "GPL-2.0 OR MIT", "PSF-2.0"],
)
def test_licences_that_let_a_program_be_passed_on_are_allowed(licence: str) -> None:
    assert allowed(licence)


@pytest.mark.parametrize(
    "licence",
    ["GPL-3.0-only", "UNKNOWN", "", "MIT AND GPL-3.0-only", "Proprietary, permitted to members alone", "AGPL"],
)
def test_others_are_named(licence: str) -> None:
    assert not allowed(licence)


def test_what_runs_is_what_deltaserve_needs_and_what_that_needs_without_the_developers_tools() -> None:
    needed = closure("deltaserve", ("", "redis"))
    assert {"deltaserve", "fastapi", "starlette", "torch", "redis"} <= needed
    assert not {"pytest", "ruff", "mypy", "schemathesis"} & needed
