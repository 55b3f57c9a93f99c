"""Where a server is, and which key may go there."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import httpx2 as httpx

from deltaserve.client.errors import BadAddress, BadText
from deltaserve.server.secret_files import SecretFileError, secret_of

DEFAULT_URL: Final = "http://127.0.0.1:8000"
URL_VARIABLE: Final = "DELTASERVE_URL"
KEY_VARIABLE: Final = "DELTASERVE_API_KEY"
ADMIN_KEY_VARIABLE: Final = "DELTASERVE_ADMIN_KEY"


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """A server's root and the key meant for it. Shown without the key."""

    root: str
    key: str | None = None

    def __post_init__(self) -> None:
        """Raises BadText for what no header can hold."""
        if self.key is not None and not is_header_value(self.key):
            raise BadText("A key must be printable ASCII characters without spaces at its ends: check what was copied.")

    def __repr__(self) -> str:
        return f"Address({self.root!r})"

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine: no proxy stands in between."""
        host = httpx.URL(self.root).host
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


def is_header_value(key: str) -> bool:
    return key.isascii() and key.isprintable() and key.strip() == key


def root_of(url: str) -> str:
    """The server's root, whether or not `url` ends in /v1. Raises BadAddress."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise BadAddress("The server's address must be http://host[:port] or https://host[:port].")
    if parsed.userinfo:
        raise BadAddress("The server's address must not hold a user or a password; give a key with --api-key.")
    return str(parsed.copy_with(query=None, fragment=None)).rstrip("/").removesuffix("/v1").rstrip("/")


def resolve(url: str | None, key: str | None, environment: Mapping[str, str], variable: str = KEY_VARIABLE) -> Address:
    """What the command line says, else the environment; a key never goes to another server than its own.

    A key on the command line goes to the server called. The one in `variable` goes only to the host of DELTASERVE_URL
    (http://127.0.0.1:8000 when that is not set); `variable`_FILE may name a file that holds it. Raises BadAddress,
    BadText.
    """
    configured = root_of(environment.get(URL_VARIABLE) or DEFAULT_URL)
    root = configured if url is None else root_of(url)
    if key is None and same_origin(root, configured):
        key = _key(variable, environment)
    return Address(root, key or None)


def _key(variable: str, environment: Mapping[str, str]) -> str | None:
    try:
        return secret_of(variable, environment)
    except SecretFileError as error:
        raise BadText(str(error)) from None


def same_origin(one: str, other: str) -> bool:
    """Same scheme, host and port."""
    a, b = httpx.URL(one), httpx.URL(other)
    return (a.scheme, a.host, _port(a)) == (b.scheme, b.host, _port(b))


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)
