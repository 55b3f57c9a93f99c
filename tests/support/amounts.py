"""How much a test tries: less in `make test`, which repeats the same cases, more in `make test-slow`."""

import os

SEARCHES = os.environ.get("HYPOTHESIS_PROFILE", "steady") != "steady"


def amount(steady: int, searching: int) -> int:
    """How much of anything: draws, questions, examples."""
    return searching if SEARCHES else steady


def examples(most: int) -> int:
    """How many examples of a property are tried: half of `most` in `make test`."""
    return most if SEARCHES else most // 2
