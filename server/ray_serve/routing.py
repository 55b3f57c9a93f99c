"""Which replica gets a request: one that is ready, and for each session the same one.

Ray sends this file to its proxies, where it stands alone: it imports nothing of ours.
"""

import hashlib
import random
from collections.abc import Sequence

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica


class ReadyFirst(RequestRouter):
    """The less busy of two replicas drawn by chance; with a session (header X-Session-Id) the one that the session's

    hash names, then the next ones if it takes no more. Replicas that are fenced, or whose black box is away, come in
    question only where no other one is there: their refusal says why.
    """

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """In ranks: of each the least busy one that takes requests; the next rank if there is none."""
        ready = [one for one in candidate_replicas if one.routing_stats.get("ready", True)] or candidate_replicas
        if pending_request is None:
            return [_drawn(ready)]
        pending_request.routing_context.should_backoff = True  # before all are asked again
        session = pending_request.metadata.session_id
        if not session:
            return [_drawn(ready)]
        return [[one] for one in sorted(ready, key=lambda one: _place(session, str(one.replica_id)))]


def _drawn(replicas: Sequence[RunningReplica]) -> list[RunningReplica]:
    return random.sample(replicas, min(2, len(replicas)))


def _place(session: str, replica: str) -> bytes:
    """Rendezvous hashing: a replica that comes or goes moves no session between others."""
    return hashlib.blake2b(f"{session}\0{replica}".encode(errors="replace"), digest_size=8).digest()
