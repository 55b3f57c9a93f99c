"""Refusals in vLLM's wording: `{"error": {message, type, param, code}}`, code being the HTTP status."""

from typing import Any

TYPES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    429: "RateLimitError",
    500: "InternalServerError",
    501: "NotImplementedError",
    503: "ServiceUnavailableError",
}


class ApiError(Exception):
    """An answer that is an error. `status` is the HTTP status and the body's `code`."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, retry_after_s: int | None = None):
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        """As JSON types."""
        kind = TYPES.get(self.status, "InternalServerError")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.status}}


def invalid(message: str, param: str, value: object = None) -> ApiError:
    """vLLM appends the parameter, and the value where it is short, to its sentence."""
    suffix = f"(parameter={param})" if value is None else f"(parameter={param}, value={value})"
    return ApiError(f"{message} {suffix}", param=param)
