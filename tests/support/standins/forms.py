"""Answers that a stand-in holds to a form: here a form has one text."""

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tests.support.standins.oracle import END, SIZE, TOKENIZER

Engine = Literal["", "same", "other", "ignores"]  # "": it refuses; "other": as xgrammar, which knows schemas and EBNF


def text_of_schema(schema: Any, engine: Engine) -> bytes | None:
    """Of a schema of an object with one constant; None where it refuses."""
    if engine == "":
        return None
    ((name, value),) = schema["properties"].items()
    options: Mapping[str, str] = schema.get("x-guidance", {}) if engine == "same" else {}
    return f"{{{json.dumps(name)}{options.get('key_separator', ':')}{json.dumps(value['const'])}}}".encode()


def text_of_lark(lark: str, engine: Engine) -> bytes | None:
    """Of a grammar with one text; None where it refuses."""
    found = re.fullmatch(r'%llguidance \{\}\nstart: ("(?:\\.|[^"\\])*")', lark)
    if engine != "same" or found is None:
        return None
    return str(json.loads(found[1])).encode()


def allowed(rest: bytes) -> NDArray[np.bool_]:
    """Which ids go on with `rest`, shape [SIZE]; the end where there is nothing left."""
    mask = np.array([bool(own := TOKENIZER.token_bytes(i)) and rest.startswith(own) for i in range(SIZE)])
    mask[END:] = False
    mask[END] = not rest
    return mask
