"""The file of keys: for each name the digest of a key, what its holder may use, and until when. TOML:

[alice]
sha256 = "…"                        # of the key; `deltaserve keys new alice` makes one
streams = 4                         # answers at a time; what is left out has no limit
requests_per_minute = 60
tokens_per_minute = 20000           # of prompts, and generated
models = ["qwen", "qwen@retracted"] # as /v1/models names them
expires = 2027-01-01                # the end of the day before, UTC; or a time with its zone
"""

import hashlib
import os
import re
import secrets
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from deltaserve.errors import NotConfigured
from deltaserve.server.serving.admission.clients import Client
from deltaserve.server.settings import Settings

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PREFIX: Final = "ds-"  # of a key, so that one that was published by mistake can be told from other secrets
_KEY_BYTES: Final = 32
_MOST_BYTES: Final = 4_000_000

Positive = Annotated[int, Field(ge=1, le=10**12)]


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a key, and until when it opens anything."""

    client: Client
    expires: datetime | None = None

    def expired(self, now: datetime) -> bool:
        return self.expires is not None and now >= self.expires


Holders = Mapping[bytes, Holder]  # by the digest of the key


class KeyEntry(BaseModel):
    """One table of the file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    sha256: str
    streams: Positive | None = None
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    models: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = None
    expires: datetime | date | None = None

    @field_validator("sha256")
    @classmethod
    def _is_a_digest(cls, value: str) -> str:
        if re.fullmatch(r"[0-9a-fA-F]{64}", value) is None:
            raise ValueError("it must be 64 hexadecimal digits, as `deltaserve keys new` prints them")
        return value

    @field_validator("expires")
    @classmethod
    def _has_a_zone(cls, value: datetime | date | None) -> datetime | None:
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise ValueError("say the time zone: 2027-01-01T00:00:00Z")
            return value
        return None if value is None else datetime.combine(value, time(), UTC)

    def holder(self, name: str) -> Holder:
        limits = {field: getattr(self, field) for field in ("streams", "requests_per_minute", "tokens_per_minute")}
        models = None if self.models is None else tuple(self.models)
        expires = self.expires if isinstance(self.expires, datetime) else None
        return Holder(Client(name, models=models, **limits), expires)


def read_keys(path: Path) -> Holders:
    """Everything that the file says. Raises NotConfigured with a sentence that repeats neither keys nor digests."""
    holders: dict[bytes, Holder] = {}
    for name, table in _tables(path).items():
        digest, holder = _entry(path, name, table)
        if digest in holders:
            raise NotConfigured(f"{path}: {holders[digest].client.name} and {name} have the same key.")
        holders[digest] = holder
    if not holders:
        raise NotConfigured(f"{path} lists no key; `deltaserve keys new NAME` makes one.")
    return holders


def keys_of(settings: Settings) -> Holders:
    """Those of `keys_file`; none without one. Raises NotConfigured, also where one is a key of the settings too."""
    path, admin_key = settings.keys_file, settings.admin_key
    if path is None:
        return {}
    holders = read_keys(path)
    if admin_key is not None and (holder := holders.get(digest_of(admin_key.get_secret_value()))):
        raise NotConfigured(f"{path}, [{holder.client.name}] is the admin key, which those who ask must not have.")
    for key in settings.api_keys:
        if holder := holders.get(digest_of(key.get_secret_value())):
            raise NotConfigured(
                f"{path}, [{holder.client.name}] is one of api_keys too, where it would have no limits."
            )
    return holders


def _tables(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_content(path).decode("utf-8"))
    except OSError as error:
        raise NotConfigured(f"keys_file: {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise NotConfigured(f"keys_file: {path} is not UTF-8 text.") from None
    except (ValueError, RecursionError) as error:  # also of a number of 5,000 digits, and of 1,000 brackets
        raise NotConfigured(f"keys_file: {path} cannot be read as TOML{_place(error)}.") from None


def _content(path: Path) -> bytes:
    """A pipe or a device would keep the server waiting, at each SIGHUP. Raises OSError, NotConfigured."""
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise NotConfigured(f"keys_file: {path} is no regular file.")
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise NotConfigured(f"keys_file: {path} is larger than the {_MOST_BYTES:,} bytes accepted.")
    return content


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe: for somebody who writes


def _place(error: Exception) -> str:
    """Where the error is; what it says before that may repeat the file."""
    at = re.search(r"\((at [^()]*)\)$", str(error))
    return f" ({at.group(1)})" if at else ""


def _entry(path: Path, name: str, table: Any) -> tuple[bytes, Holder]:
    if NAME.fullmatch(name) is None:
        raise NotConfigured(f"{path}: a key's name is up to 64 letters, digits, dots, dashes and underscores.")
    if not isinstance(table, dict):
        raise NotConfigured(f"{path}: {name} must be a table: [{name}], and below it sha256 and the limits.")
    try:
        entry = KeyEntry.model_validate(table)
    except ValidationError as error:
        raise NotConfigured(f"{path}, [{name}]: {_sentence(error)}") from None
    return bytes.fromhex(entry.sha256), entry.holder(name)


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        return f"one of the fields is unknown; there are {', '.join(KeyEntry.model_fields)}."
    if first["type"] == "missing":
        return f"{field} is missing."
    return f"{field}: {str(first['msg']).removeprefix('Value error, ')}."


def digest_of(key: str) -> bytes:
    """What is kept of a key. A random key has far more values than can be tried, so a plain digest hides it."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def new_key() -> str:
    """256 random bits."""
    return PREFIX + secrets.token_urlsafe(_KEY_BYTES)
