"""Judges: an independent validator, and whether a text is JSON at all."""

import json
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import jsonschema_rs

VALIDATORS: Final = {
    "draft4": jsonschema_rs.Draft4Validator,
    "draft6": jsonschema_rs.Draft6Validator,
    "draft7": jsonschema_rs.Draft7Validator,
    "draft2019-09": jsonschema_rs.Draft201909Validator,
    "draft2020-12": jsonschema_rs.Draft202012Validator,
}
_BEYOND: Final = Decimal("1e400")


def fault(schema: Any, text: str, draft: str | None = None) -> str | None:
    """Why `text` is no valid answer; None where it is one. Formats are asserted. A draft that is not named is found."""
    try:
        value = json.loads(text, parse_float=_number)
    except ValueError as error:
        return f"no JSON: {error}"
    validator = VALIDATORS[draft] if draft else jsonschema_rs.validator_for
    try:
        validator(schema, validate_formats=True).validate(value)
    except jsonschema_rs.ValidationError as error:
        return error.message
    return None


def _number(text: str) -> Decimal:
    """JSON bounds no exponent; Decimal does."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return _BEYOND if "e-" not in text.lower() else Decimal("1e-400")
