"""Every way in which a call can end badly, as one tree; each message is a sentence, the server's own where it sent one.

ClientError
├── BadAddress      the base URL is no http(s) address
├── BadText         a text or a key cannot be sent: not valid Unicode, or no header value
├── Unreachable     nothing answered, not in time, or the connection broke
├── Refused         the server answered 4xx: key, model or request
└── ServerFailed    the server answered 5xx, or something that is no answer
"""


class ClientError(Exception):
    """Base of the tree."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadAddress(ClientError):
    pass


class BadText(ClientError):
    pass


class Unreachable(ClientError):
    pass


class Refused(ClientError):
    """`status`, `code` and `request_id` as the server gave them; None where it gave none."""

    def __init__(self, message: str, status: int, code: str | None = None, request_id: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id


class ServerFailed(ClientError):
    """As Refused; `retry_after_s` where the server says when it may be better."""

    def __init__(
        self,
        message: str,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after_s = retry_after_s
