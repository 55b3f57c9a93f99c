"""Servers that our own code starts as processes, forked by the nursery: none of them imports torch anew."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from deltaserve.offset_models.demo.process import Child, Read
from tests.support.nursery import Forked, nursery

PROGRAMS = ("deltaserve", "deltaserve.offset_models.demo.blackbox")


@contextmanager
def children_of_the_nursery() -> Iterator[None]:
    """`Child.start` forks the programs that `python -m` would run. tests/client/demo starts them from nothing."""
    start = Child.start

    def forked(
        name: str, *command: str, env: Mapping[str, str] | None = None, read: Read = "both", tied: bool = False
    ) -> Child:
        python, flag, module, *arguments = command
        if (python, flag) != (sys.executable, "-m") or module not in PROGRAMS:
            return start(name, *command, env=env, read=read, tied=tied)
        return Child(name, _forked(module, arguments, env, read))  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Child, "start", forked)
        yield


def _forked(module: str, arguments: list[str], env: Mapping[str, str] | None, read: Read) -> Forked:
    ours, theirs = os.pipe()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    stdout, stderr = {"stdout": (theirs, 2), "stderr": (nowhere, theirs), "both": (theirs, theirs)}[read]
    try:
        keeper = nursery().start(module, *arguments, stdout=stdout, stderr=stderr, env=env)
    finally:
        os.close(theirs)
        os.close(nowhere)
    return Forked(keeper, ours)
