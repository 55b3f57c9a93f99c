"""Ports, taken before anything that lasts: a port in use is told in a moment, not after a model has been read."""

import errno
import socket
from collections.abc import Iterable

from deltaserve.errors import AddressUnusable


def bound(host: str, port: int, what: str, option: str) -> list[socket.socket]:
    """Sockets on every address of `host`, bound and not listening yet. Raises AddressUnusable naming `option`."""
    sockets: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port, option):
            sockets += _bound(family, address)
    except OSError as error:
        close(sockets)
        raise AddressUnusable(_sentence(host, port, what, option, error)) from None
    if not sockets:
        raise AddressUnusable(_no_address(host, option))
    return sockets


def close(sockets: Iterable[socket.socket]) -> None:
    for one in sockets:
        one.close()


def in_use(port: int, what: str, option: str) -> AddressUnusable:
    """Somebody else listens there."""
    return AddressUnusable(f"Port {port} for the {what} is in use: free it, or choose another with {option}.")


def _addresses(host: str, port: int, option: str) -> list[tuple[int, tuple[object, ...]]]:
    try:
        resolved = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise AddressUnusable(_no_address(host, option)) from None
    return list(dict.fromkeys((family, address) for family, _, _, _, address in resolved))


def _bound(family: int, address: tuple[object, ...]) -> list[socket.socket]:
    """The bound socket in a list, which is empty where this machine lacks the address (as `localhost` may)."""
    try:
        one = socket.socket(family, socket.SOCK_STREAM)
    except OSError:  # a family that is switched off
        return []
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that end are no reason to wait
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        one.bind(address)
    except OSError as error:
        one.close()
        if error.errno == errno.EADDRNOTAVAIL:
            return []
        raise
    return [one]


def _no_address(host: str, option: str) -> str:
    return (
        f"{host or 'The host'} is no address of this machine: give one with {option.replace('port', 'host')}, for "
        "example 127.0.0.1."
    )


def _sentence(host: str, port: int, what: str, option: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return in_use(port, what, option).message
    if error.errno == errno.EACCES:
        return f"Port {port} for the {what} needs rights that this process has not: choose another with {option}."
    return f"Port {port} of {host} cannot be used for the {what} ({error.strerror}): choose another with {option}."
