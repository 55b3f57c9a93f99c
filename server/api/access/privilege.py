"""What the admin key opens on the public routes: seeing what the black box would have said."""

from typing import Final

from pydantic import SecretStr
from starlette.datastructures import Headers

from deltaserve.errors import Forbidden, RateLimited
from deltaserve.server.api.access.admin_door import AdminUnauthorized
from deltaserve.server.api.access.auth import Keys
from deltaserve.server.serving.admission.allowance import Allowance

HEADER: Final = "x-admin-key"


class Privilege:
    """The admin key, compared in constant time; refusals have an allowance, so that nobody tries many."""

    def __init__(self, key: SecretStr | None, refusals_per_minute: int) -> None:
        self._keys = Keys([key.get_secret_value()] if key else [])
        self._refusals = Allowance(refusals_per_minute)

    @property
    def exists(self) -> bool:
        return bool(self._keys)

    def require(self, headers: Headers, what: str, param: str | None = None) -> None:
        """Raises Forbidden where no key is configured, AdminUnauthorized without the right one, RateLimited."""
        if not self._keys:
            raise Forbidden(
                f"{what} shows what the black box would have said, and this server has no admin key that would allow "
                "it (DELTASERVE_ADMIN_KEY).",
                param=param,
            )
        if self.held(headers):
            return
        if (wait_s := self._refusals.take()) is not None:
            raise RateLimited("Too many wrong admin keys; see admin_requests_per_minute.", retry_after_s=wait_s)
        reason = (
            "The admin key in X-Admin-Key is not the right one" if HEADER in headers else f"{what} needs the admin key"
        )
        raise AdminUnauthorized(f"{reason}: send X-Admin-Key: <admin key>.", param=param)

    def held(self, headers: Headers) -> bool:
        """A key in X-Admin-Key is the one that counts: a wrong one is not made good by the bearer's."""
        given = headers.get(HEADER)
        return self._keys.accept(headers) if given is None else self._keys.has(given)
