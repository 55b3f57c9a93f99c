"""`AdminClient` and `AsyncAdminClient`: offsets under administration. The key is the server's admin key."""

from collections.abc import Mapping
from typing import Any

from deltaserve.client import admin_calls as calls
from deltaserve.client.admin_results import Activated, AuditPage, Offset, Unloaded
from deltaserve.client.client import AsyncClient, Client


class AdminClient(Client):
    """Blocking. Give the admin key as `api_key`."""

    def offsets(self) -> list[Offset]:
        return self._run(calls.offsets())

    def load(
        self, name: str, path: str, strength: float | None = None, activate: bool = False, wait: bool = True
    ) -> Offset:
        return self._run(calls.load(name, path, strength, activate, wait))

    def add_up(self, name: str, parts: Mapping[str, float | None], activate: bool = False) -> Offset:
        return self._run(calls.add_up(name, parts, activate))

    def activate(self, name: str, quorum: int | None = None) -> Activated:
        return self._run(calls.activate(name, quorum))

    def rollback(self, quorum: int | None = None) -> Activated:
        return self._run(calls.rollback(quorum))

    def set_strength(self, name: str, strength: float) -> Offset:
        return self._run(calls.set_strength(name, strength))

    def unload(self, name: str) -> Unloaded:
        return self._run(calls.unload(name))

    def upstream(self) -> Mapping[str, Any]:
        return self._run(calls.upstream())

    def fleet(self) -> Mapping[str, Any]:
        return self._run(calls.fleet())

    def audit(self, limit: int = 100, before: int | None = None) -> AuditPage:
        return self._run(calls.audit(limit, before))


class AsyncAdminClient(AsyncClient):
    """As AdminClient, for one event loop."""

    async def offsets(self) -> list[Offset]:
        return await self._run(calls.offsets())

    async def load(
        self, name: str, path: str, strength: float | None = None, activate: bool = False, wait: bool = True
    ) -> Offset:
        return await self._run(calls.load(name, path, strength, activate, wait))

    async def add_up(self, name: str, parts: Mapping[str, float | None], activate: bool = False) -> Offset:
        return await self._run(calls.add_up(name, parts, activate))

    async def activate(self, name: str, quorum: int | None = None) -> Activated:
        return await self._run(calls.activate(name, quorum))

    async def rollback(self, quorum: int | None = None) -> Activated:
        return await self._run(calls.rollback(quorum))

    async def set_strength(self, name: str, strength: float) -> Offset:
        return await self._run(calls.set_strength(name, strength))

    async def unload(self, name: str) -> Unloaded:
        return await self._run(calls.unload(name))

    async def upstream(self) -> Mapping[str, Any]:
        return await self._run(calls.upstream())

    async def fleet(self) -> Mapping[str, Any]:
        return await self._run(calls.fleet())

    async def audit(self, limit: int = 100, before: int | None = None) -> AuditPage:
        return await self._run(calls.audit(limit, before))
