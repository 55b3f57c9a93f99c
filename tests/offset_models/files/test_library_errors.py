"""One refusal for whatever a library raises; what is ours or ends the program passes."""

import asyncio
import weakref

import pytest

from deltaserve.errors import BadCheckpoint, Conflict, DeltaserveError
from deltaserve.offset_models.files.library_errors import MAX_CAUSE, cause_of, refusing


class PanicException(BaseException):
    """As Rust's libraries raise it: no Exception."""


class OutOfMemoryError(RuntimeError):
    """torch's, by its name."""


class Heavy:
    """What a half-read model would be."""


def refusal(error: BaseException) -> str:
    with pytest.raises(BadCheckpoint) as caught, refusing("The base cannot be read"):
        raise error
    assert caught.value.__cause__ is error
    return caught.value.message


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ImportError("It needs the library autogptq."), "ImportError, It needs the library autogptq."),
        (PanicException("index out of range"), "PanicException, index out of range."),
        (KeyError("nope"), "KeyError, 'nope'."),
        (ZeroDivisionError(), "ZeroDivisionError."),
        (RecursionError("maximum recursion depth exceeded"), "it is nested too deeply."),
        (PermissionError(13, "Permission denied", "/srv/secret/base/config.json"), "Permission denied (config.json)."),
        (OSError("Nothing in directory /srv/secret/base."), "OSError, Nothing in directory base."),
        (
            ValueError("Validation error:\n    heads: 0 is too few\n  more"),
            "ValueError, Validation error: heads: 0 is t",
        ),
        (ValueError("\n\nfirst\nTraceback (most recent call last)"), "ValueError, first."),
    ],
)
def test_a_foreign_error_leaves_as_one_sentence(error: BaseException, message: str) -> None:
    assert refusal(error).startswith(f"The base cannot be read: {message}")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_lack_of_memory_says_what_to_do(error: BaseException) -> None:
    assert "does not fit into the memory that is left; unload another offset" in refusal(error)


def test_a_long_cause_is_cut() -> None:
    cause = cause_of(ValueError("word " * 200))
    assert cause.endswith("word …") and len(cause) <= MAX_CAUSE + len("ValueError, ") + 2


@pytest.mark.parametrize(
    "error", [Conflict("In use."), KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError(), GeneratorExit()]
)
def test_deltaserve_errors_and_exits_pass_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, refusing("The base cannot be read"):
        raise error
    assert caught.value is error


def test_what_a_failed_load_held_is_let_go_while_its_refusal_is_kept() -> None:
    seen: list[weakref.ref[Heavy]] = []

    @refusing("The base cannot be read")
    def load() -> None:
        half_read = Heavy()
        seen.append(weakref.ref(half_read))
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ImportError("outer") from error

    with pytest.raises(DeltaserveError) as caught:
        load()
    assert seen[0]() is None
    assert caught.value.__cause__ is not None
