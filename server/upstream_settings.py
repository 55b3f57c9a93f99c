"""What can be set for each of several upstreams: written with commas, or once for all of them."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

import httpx2 as httpx
from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

T = TypeVar("T")


def _parts(value: object) -> object:
    """`a,b` as two; so is each of a list. An empty part stays: that upstream has none."""
    if isinstance(value, str):
        return _split(value)
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return tuple(part for one in value for part in _split(one))
    return (value,) if isinstance(value, int) else value


def _split(text: str) -> tuple[str, ...]:
    """White space around commas is none of the parts'; a single part is taken as it is, to be refused if it must be."""
    return tuple(part.strip() for part in text.split(",")) if "," in text else (text,)


def _keys(value: object) -> object:
    """A list is taken as it is, so that a key may have a comma; in the environment it is written as JSON."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError('a list of keys is written ["one", "other"]') from None
    if isinstance(value, list | tuple):
        if not all(isinstance(one, str | SecretStr) for one in value):
            raise ValueError("a list of keys holds texts only")
        return tuple(value)
    return _parts(value)


def _addresses(value: object) -> object:
    parts = _parts(value)
    return tuple(part.strip() for part in parts if part.strip()) if isinstance(parts, tuple) else parts


Addresses = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_addresses)]
KeyOfEach = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_keys)]
NumberOfEach = Annotated[tuple[Annotated[int, Field(ge=0)], ...], NoDecode, BeforeValidator(_parts)]
LIMITS: Final = ("upstream_calls_at_once", "upstream_calls_per_minute", "upstream_tokens_per_minute")


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """What is set for one black box; None: nothing."""

    url: str
    key: str | None = None
    calls_at_once: int | None = None
    calls_per_minute: int | None = None
    tokens_per_minute: int | None = None

    @property
    def name(self) -> str:
        """For logs and metrics: its host and port, and a path where there is one."""
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL:
            return self.url
        return url.netloc.decode("ascii") + url.path.rstrip("/").removesuffix("/v1")


def for_each(values: tuple[T, ...], count: int) -> tuple[T | None, ...]:
    """One value stands for all, none for nothing. Raises ValueError for another number of them."""
    if len(values) not in (0, 1, count):
        raise ValueError(f"give one for all upstreams, or {count}: one for each in upstream_url")
    return values if len(values) == count else (values or (None,)) * count


def each_upstream(
    urls: tuple[str, ...], keys: tuple[SecretStr, ...], *limits: tuple[int, ...]
) -> list[UpstreamSettings]:
    """`limits`: as LIMITS names them; 0 stands for none."""
    count = len(urls)
    return [
        UpstreamSettings(url, (key.get_secret_value() or None) if key else None, *(one or None for one in each))
        for url, key, *each in zip(urls, for_each(keys, count), *(for_each(one, count) for one in limits), strict=True)
    ]


def check_each(urls: tuple[str, ...], named: dict[str, tuple[Any, ...]]) -> None:
    """Raises ValueError where an upstream is named twice, or where `named` settings do not fit their number."""
    known = [UpstreamSettings(url).name for url in urls]
    for name in known:
        if known.count(name) > 1:
            raise ValueError(f"upstream_url names {name} twice")
    for name, values in named.items():
        try:
            for_each(values, len(urls))
        except ValueError as error:
            hint = '; a key that has a comma is written in a list: ["a,b"]' if name == "upstream_key" else ""
            raise ValueError(f"{name}: {error}{hint}") from None
