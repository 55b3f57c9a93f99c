"""Fixtures that every room's tests share."""

import gc
import os
import signal
from collections.abc import Generator, Iterator
from functools import cache

import httpcore2
import pytest
import structlog
from hypothesis import settings

# `make test` draws the same cases every time, so that a red run means a changed tree; `make test-slow` more, new ones.
settings.register_profile("steady", derandomize=True, database=None, deadline=None, max_examples=50)
settings.register_profile("search", derandomize=False, deadline=None, max_examples=300)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

# Several workers share the cores already: a second torch thread in each, and in every server they start, only waits.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# By how long they take, longest first: one that is begun last is waited for by all that are ready.
LONG = (
    "tests/offset_models/demo/pipeline/test_build.py",
    "tests/e2e/test_must_hold.py",
    "tests/e2e/test_processes.py",
    "tests/e2e/test_llamacpp.py",
    "tests/benchmarks/test_gpu.py",
    "tests/e2e/test_strength_zero.py",
    "tests/client/evaluation/attacks/test_leakage.py",
    "tests/server/decoding/test_correction.py",
    "tests/offset_models/engine/answering/test_answers.py",
    "tests/client/forget/test_attack.py",
    "tests/client/forget/test_forget.py",
    "tests/client/test_collect.py",
    "tests/server/processes/test_supervisor.py",
    "tests/e2e/test_hidden_draws.py",
    "tests/server/decoding/drafting/test_sources.py",
    "tests/client/forget/test_choosing.py",
    "tests/offset_models/engine/forward/test_runner.py",
    "tests/offset_models/training/learning/test_trainer.py",
    "tests/client/forget/test_about.py",
    "tests/client/starts/test_black_box.py",
    "tests/client/evaluation/test_evaluate.py",
    "tests/client/forget/test_minutes.py",
    "tests/client/demo/test_demo.py",
    "tests/offset_models/training/learning/test_calibration.py",
    "tests/server/decoding/constraints/test_sent_grammars.py",
    "tests/server/decoding/deciding/test_verification.py",
    "tests/server/api/routes/test_admin.py",
    "tests/server/sockets/test_connections.py",
    "tests/server/upstream/listing/test_prompts.py",
    "tests/server/test_ending.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {file: at for at, file in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(rank)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays to the end: each worker would look through it for garbage for seconds."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: many tests wait for a server or a clock."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def certificates_read_once() -> Iterator[None]:
    """Every HTTP client reads the machine's certificates, which takes longer than most tests; none here speaks TLS."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpcore2, "default_ssl_context", cache(httpcore2.default_ssl_context))
        yield


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> Iterator[None]:
    """A shell script's background job ignores SIGINT, and so would every program that a test starts and interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def structlog_as_it_was() -> Iterator[None]:
    """Commands and servers that run in this process set structlog up for all of it."""
    yield
    structlog.reset_defaults()
