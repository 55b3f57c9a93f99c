"""Every error a caller can meet, as one tree; each knows its HTTP status, OpenAI type and code, and if a retry helps.

DeltaserveError
├── BadRequest                     400 invalid_request_error
│   ├── UnsupportedParameter       400 unsupported_parameter   known to OpenAI or to us, not built or not possible here
│   └── ContextLengthExceeded      400 context_length_exceeded
├── Unauthorized                   401 authentication_error
│   └── KeyExpired                 401
├── Forbidden                      403 permission_error        nobody may, as this server is set up; or not this key
├── ModelNotFound                  404 model_not_found
├── RequestTimedOut                408                         the client was too slow in sending its request
├── Conflict                       409
├── PayloadTooLarge                413
├── HeaderTooLarge                 431
├── RateLimited                    429 with Retry-After         a queue of ours is full
│   └── KeyLimited                 429                          the limits of the API key are reached
├── Unavailable                    503 with Retry-After         starting, draining, no offset active
│   ├── OffsetUnavailable          503                          the engine cannot give a row
│   │   └── NoOffset               503 not retryable            the pair tells nothing of the token that would come
│   ├── ReplicaFenced              503                          this replica may be behind its fleet
│   └── StoreUnreachable           503                          the fleet's store does not answer
├── UpstreamError                  502                          the black box failed, or its answer cannot be corrected
│   ├── UpstreamUnreachable        502 retryable
│   ├── UpstreamBusy               503 retryable                it said 429 or 503
│   ├── UpstreamTimeout            504 retryable
│   ├── UpstreamChanged            503 retryable                another model answers there than was probed
│   ├── UpstreamRefused            502                          it answered 4xx: its sentence is kept for the log
│   ├── MalformedTopK              502                          NaN, unsorted, repeated, out of range, not normalised
│   ├── OtherGrammar               502                          under a grammar it lists what ours does not allow
│   └── BlindPosition              502                          it showed no list at a position, asked again neither
├── UncorrectableUpstream          start-up: what was probed cannot be corrected exactly; names the missing setting
├── CorruptState                   start-up: the registry's state file is torn or missing; never guessed
├── StateFolderUnusable            start-up: the state folder cannot be written, or another server uses it
├── AddressUnusable                start-up: the port is taken, or the address is not one of this machine
├── NotConfigured                  start-up: a setting is missing without which nothing can be served
└── BadCheckpoint                  400                          an offset checkpoint that must not be loaded
"""

from collections.abc import Sequence
from typing import ClassVar, Final

MAX_SHOWN: Final = 200  # characters of an unknown name that an error repeats
MAX_LISTED: Final = 8  # names that an error offers in its place


class DeltaserveError(Exception):
    """Base of the tree. `message` is a sentence for the caller; it never holds prompt or answer text."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


class BadRequest(DeltaserveError):
    status = 400
    type = "invalid_request_error"


class UnsupportedParameter(BadRequest):
    code = "unsupported_parameter"


class ContextLengthExceeded(BadRequest):
    code = "context_length_exceeded"


class Unauthorized(DeltaserveError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class KeyExpired(Unauthorized):
    code = "expired_api_key"


class Forbidden(DeltaserveError):
    status = 403
    type = "permission_error"
    code = "forbidden"


class ModelNotFound(DeltaserveError):
    status = 404
    type = "not_found_error"
    code = "model_not_found"

    @classmethod
    def among(cls, name: str, names: Sequence[str]) -> "ModelNotFound":
        """Of a name that is none of `names`, which the sentence lists as far as they are few."""
        few = ", ".join(names[:MAX_LISTED]) + (" and more (GET /v1/models)" if len(names) > MAX_LISTED else "")
        shown = name if len(name) <= MAX_SHOWN else name[:MAX_SHOWN] + "…"
        return cls(f"The model {shown!r} does not exist; there is {few or 'none yet'}.", param="model")


class RequestTimedOut(DeltaserveError):
    status = 408
    type = "invalid_request_error"
    code = "request_timeout"
    retryable = True


class Conflict(DeltaserveError):
    status = 409
    type = "conflict_error"


class PayloadTooLarge(DeltaserveError):
    status = 413
    type = "invalid_request_error"
    code = "payload_too_large"


class HeaderTooLarge(DeltaserveError):
    status = 431
    type = "invalid_request_error"
    code = "header_too_large"


class RateLimited(DeltaserveError):
    status = 429
    type = "rate_limit_error"
    code = "too_many_requests"
    retryable = True


class KeyLimited(RateLimited):
    code = "rate_limit_exceeded"


class Unavailable(DeltaserveError):
    status = 503
    type = "service_unavailable_error"
    code = "unavailable"
    retryable = True


class OffsetUnavailable(Unavailable):
    code = "offset_unavailable"


class NoOffset(OffsetUnavailable):
    retryable = False


class ReplicaFenced(Unavailable):
    code = "replica_fenced"


class StoreUnreachable(Unavailable):
    code = "fleet_store_unreachable"


class UpstreamError(DeltaserveError):
    status = 502
    type = "upstream_error"
    code = "upstream_error"


class UpstreamUnreachable(UpstreamError):
    code = "upstream_unreachable"
    retryable = True


class UpstreamBusy(UpstreamError):
    status = 503
    code = "upstream_busy"
    retryable = True


class UpstreamTimeout(UpstreamError):
    status = 504
    code = "upstream_timeout"
    retryable = True


class UpstreamChanged(UpstreamError):
    status = 503
    code = "upstream_changed"
    retryable = True


class UpstreamRefused(UpstreamError):
    code = "upstream_refused"


class MalformedTopK(UpstreamError):
    code = "upstream_malformed_top_k"


class OtherGrammar(UpstreamError):
    code = "upstream_other_grammar"

    def __init__(self) -> None:
        super().__init__("The black box reads the answer's grammar otherwise: what it lists is not what is allowed.")


class BlindPosition(UpstreamError):
    code = "upstream_blind_position"

    def __init__(self) -> None:
        super().__init__(
            "The black box did not show which tokens it considers at a position of this answer, not even when asked "
            "again (or it takes text only, and no text says which tokens stand before that position): nothing can be "
            "corrected there. The setting allow_blind lets the pair alone decide such positions."
        )


class UncorrectableUpstream(DeltaserveError):
    code = "upstream_uncorrectable"


class BadCheckpoint(DeltaserveError):
    status = 400
    type = "invalid_request_error"
    code = "bad_checkpoint"


class CorruptState(DeltaserveError):
    code = "state_corrupt"


class StateFolderUnusable(DeltaserveError):
    code = "state_folder_unusable"


class AddressUnusable(DeltaserveError):
    code = "address_unusable"


class NotConfigured(DeltaserveError):
    code = "not_configured"
