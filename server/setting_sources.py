"""Where settings come from: the environment, a TOML file, and a file for each secret; and what is wrong with them."""

import os
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from deltaserve.server.secret_files import SUFFIX, SecretFileError, secret_of

PREFIX: Final = "DELTASERVE_"
CONFIG_FILE: Final = f"{PREFIX}CONFIG"
Fields = Mapping[str, FieldInfo]  # what can be set


class SettingsError(ValueError):
    """The server must not start with these settings; one sentence a line, without values (they may be secret)."""


def secrets_among(fields: Fields) -> list[str]:
    """Those that hold secrets: each may be given in a file."""
    return [name for name, field in fields.items() if _holds_secrets(field.annotation)]


def check_environment(fields: Fields) -> None:
    """Raises SettingsError for a variable with our prefix that sets nothing."""
    files = {_variable(name) + SUFFIX for name in secrets_among(fields)}
    ours = [key for key in os.environ if key.startswith(PREFIX) and key not in {CONFIG_FILE, *files}]
    _refuse_unknown(fields, (key.removeprefix(PREFIX).lower() for key in ours), "environment variable", PREFIX)


def read_secret_files(fields: Fields) -> dict[str, str]:
    """Those that are given in files; the environment's own are read as all settings are. Raises SettingsError."""
    try:
        secrets = {name: secret_of(_variable(name), os.environ) for name in secrets_among(fields)}
    except SecretFileError as error:
        raise SettingsError(str(error)) from None
    return {name: secret for name, secret in secrets.items() if secret and os.environ.get(_variable(name) + SUFFIX)}


def read_file(fields: Fields) -> dict[str, Any]:
    """Of the file that the environment names, if it does. Raises SettingsError."""
    if not (path := os.environ.get(CONFIG_FILE)):
        return {}
    try:
        content = tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{CONFIG_FILE}: {path} cannot be read as TOML: {error}") from error
    _refuse_unknown(fields, content, f"key in {path}", "")
    return content


def sentence(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors, for people."""
    name = ".".join(map(str, error["loc"]))
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}" if name else message


def _holds_secrets(kind: Any) -> bool:
    return kind is SecretStr or any(map(_holds_secrets, get_args(kind)))


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _refuse_unknown(fields: Fields, names: Iterable[str], kind: str, prefix: str) -> None:
    unknown = [name for name in names if name not in fields]
    if unknown:
        raise SettingsError("\n".join(_unknown(fields, name, kind, prefix) for name in unknown))


def _unknown(fields: Fields, name: str, kind: str, prefix: str) -> str:
    shown = f"{prefix}{name.upper()}" if prefix else name
    nearest = get_close_matches(name, fields, n=1, cutoff=0.0)[0]
    return f"unknown {kind} {shown}: did you mean {f'{prefix}{nearest.upper()}' if prefix else nearest}?"
