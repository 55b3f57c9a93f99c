"""The parent of a server's processes: it binds, starts, drains, and starts again what has died. It answers nothing."""

import os
import selectors
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from deltaserve.server.observability.metrics import SHARED
from deltaserve.server.observability.pushing import pusher_for
from deltaserve.server.observability.telling import closed
from deltaserve.server.processes.child import Child, Role, environment
from deltaserve.server.processes.handover import Handover
from deltaserve.server.processes.wire.translation import error
from deltaserve.server.settings import Settings

FAILED: Final = 1
INTERRUPTED: Final = 130
_END_WITHIN_S: Final = 5.0  # of a process that was told to end at once, or has said that it does
_SPARE_S: Final = 10.0  # beyond the drain timeout, before what still runs is killed
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.5, 30.0
_LEAST_SERVICE_S: Final = 1.0  # a process that ended sooner would likely end again
_METRICS: Final = "metrics"
_LONGEST_PLACE: Final = 64  # bytes; an address has 104 to 108, of which our own names take 32


class StartFailed(Exception):
    """A process ended before the server was there; `error` says why, where it is known."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__()
        self.error = error


@dataclass(slots=True)
class Post:
    """One process's place, held by one process after the other."""

    role: Role
    child: Child | None = None
    due: float = 0.0  # when the next one is started
    delay_s: float = 0.0
    served_since: float | None = None  # None: the process has not started yet

    def vacated(self) -> None:
        """The process has ended: the next one comes at once, or later and later where it did not serve for long."""
        served_s = 0.0 if self.served_since is None else time.monotonic() - self.served_since
        lasted = served_s >= _LEAST_SERVICE_S
        self.delay_s = 0.0 if lasted else min(max(2 * self.delay_s, _FIRST_DELAY_S), _LONGEST_DELAY_S)
        self.served_since = None
        self.child, self.due = None, time.monotonic() + self.delay_s


@dataclass(slots=True)
class Supervisor:
    """Runs one engine process and `front_ends` others, until a signal. `public` and `admin` are bound sockets."""

    settings: Settings
    front_ends: int
    public: Sequence[socket.socket]
    admin: Sequence[socket.socket]
    log: Any
    module: str = "deltaserve.server.processes"  # what the processes run
    folder: Path = field(init=False)
    _posts: list[Post] = field(init=False)
    _selector: selectors.BaseSelector = field(init=False, default_factory=selectors.DefaultSelector)
    _signals: int = field(init=False, default=0)
    _began_ns: int = field(init=False, default_factory=time.time_ns)
    _complete: bool = field(init=False, default=False)  # all processes have been there once
    _end_by: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._posts = [Post("engine"), *(Post("frontend") for _ in range(self.front_ends))]

    def run(self) -> int:
        """0 after a drain, INTERRUPTED after a second signal, FAILED where the start ended with a defect.

        Raises the DeltaserveError that the start ended with.
        """
        with _private_folder() as self.folder, self._hearing_signals():
            try:
                status = self._supervise()
                self._push_last()
                return status
            except StartFailed as failed:
                if failed.error is not None:
                    raise failed.error from None
                return FAILED
            finally:
                self._kill_all()
                self._selector.close()

    def _push_last(self) -> None:
        """The counts of all front-ends: the one that sends them may have ended before another's last answer."""
        endpoint = self.settings.otlp_metrics_endpoint if self._signals == 1 and self._complete else None
        if (pusher := pusher_for(endpoint, self._began_ns)) is None:
            return
        try:
            MultiProcessCollector(registry := CollectorRegistry(), str(self.folder / _METRICS))  # type: ignore[no-untyped-call]
            pusher.offer(list(registry.collect()))
        except Exception as error:  # noqa: BLE001  (a process that was killed may have left half a file: no reason to fail)
            self.log.error("the last metrics were not sent", reason=f"{type(error).__name__}: {error}")
        closed([pusher.close])

    def _supervise(self) -> int:
        while True:
            self._start_due()
            for key, _ in self._selector.select(self._wait_s()):
                if key.data is None:
                    self._hear(key.fileobj)
                else:
                    self._heard_of(key.data)
            if self._signals and not self._complete:
                return 0  # nothing has been served yet
            if self._signals and self._all_ended():
                return INTERRUPTED if self._signals > 1 else 0

    def _start_due(self) -> None:
        for post in self._posts:
            if post.child is None and not self._signals and time.monotonic() >= post.due:
                post.child = self._start(post)
                self._selector.register(post.child.channel, selectors.EVENT_READ, post)

    def _start(self, post: Post) -> Child:
        if self.settings.keys_file is None:
            return self._child(post)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # the process inherits it: see `access.reloading`
        try:
            return self._child(post)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def _child(self, post: Post) -> Child:
        if post.role == "engine":
            return Child(self.module, post.role, Handover(self.settings, self.folder, self.front_ends))
        public, admin = (tuple(one.fileno() for one in sockets) for sockets in (self.public, self.admin))
        first = post is self._posts[1]
        handover = Handover(self.settings, self.folder, self.front_ends, public, admin, self._began_ns, pushes=first)
        return Child(self.module, post.role, handover, environment(**{SHARED: str(self.folder / _METRICS)}))

    def _wait_s(self) -> float | None:
        """Until something has to be done that nobody tells of."""
        times = [post.due for post in self._posts if post.child is None and not self._signals]
        times += [self._end_by] if self._end_by is not None else []
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _heard_of(self, post: Post) -> None:
        child = post.child
        if child is None:
            return
        report = child.report()
        if report is None:
            self._ended(post, child)
        elif report.started:
            post.served_since = time.monotonic()
            self._complete = self._complete or all(one.child and one.child.started for one in self._posts)
        elif not self._complete:
            raise StartFailed(error(report.fault) if report.fault else None)
        else:
            self.log.error(f"the {post.role} cannot start", reason=report.fault and report.fault.message)

    def _ended(self, post: Post, child: Child) -> None:
        self._selector.unregister(child.channel)
        status = child.ended(_END_WITHIN_S)
        mark_process_dead(child.pid, str(self.folder / _METRICS))  # type: ignore[no-untyped-call]
        if not self._complete and not self._signals:
            self.log.error(f"the {post.role} ended while the server started", status=status)
            raise StartFailed(None)
        post.vacated()
        if not self._signals:
            self.log.error(f"the {post.role} has ended and is started again", status=status, after_s=post.delay_s)

    def _all_ended(self) -> bool:
        """Whether the front-ends have drained; then the engine, which nobody needs any more, is ended too."""
        engine, *others = self._posts
        if self._end_by is not None and time.monotonic() >= self._end_by:
            return True
        if any(post.child for post in others):
            return False
        if engine.child is not None:
            engine.child.signal(signal.SIGTERM)
            self._ended_engine(engine, engine.child)
        return True

    def _ended_engine(self, post: Post, child: Child) -> None:
        self._selector.unregister(child.channel)
        child.ended(_END_WITHIN_S)
        post.child = None

    def _hear(self, wakeup: Any) -> None:
        """One signal or several: the first to end begins the drain, a second one ends it at once."""
        for number in wakeup.recv(64):
            if number == signal.SIGHUP:
                self._pass_on(signal.SIGHUP)
                continue
            self._signals += 1
            within_s = self.settings.drain_timeout_s + _SPARE_S if self._signals == 1 else _END_WITHIN_S
            self._end_by = time.monotonic() + within_s
            if self._signals <= 2:
                self._pass_on(signal.SIGTERM)

    def _pass_on(self, number: signal.Signals) -> None:
        """To the front-ends."""
        for post in self._posts[1:]:
            if post.child is not None:
                post.child.signal(number)

    @contextmanager
    def _hearing_signals(self) -> Iterator[None]:
        ours, wakeup = socket.socketpair()
        wakeup.setblocking(False)
        before = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        for number in self._heard_signals():
            signal.signal(number, _heard_in_the_loop)
        self._selector.register(ours, selectors.EVENT_READ, None)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: os._exit(INTERRUPTED))
            ours.close()
            wakeup.close()

    def _heard_signals(self) -> list[signal.Signals]:
        again = [] if self.settings.keys_file is None else [signal.SIGHUP]
        return [signal.SIGINT, signal.SIGTERM, *again]

    def _kill_all(self) -> None:
        for post in self._posts:
            if post.child is not None:
                post.child.signal(signal.SIGKILL)
        for post in self._posts:
            if post.child is not None:
                post.child.ended(_END_WITHIN_S)


def _heard_in_the_loop(number: int, frame: FrameType | None) -> None:
    """The wake-up descriptor tells the loop."""


@contextmanager
def _private_folder() -> Iterator[Path]:
    """For this server's sockets and metrics, open to nobody else; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="deltaserve-", dir=_short_place()))  # mode 0700
    (folder / _METRICS).mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _short_place() -> str | None:
    """None: where temporary files usually go; another folder where that name is too long for a socket's address."""
    return None if len(os.fsencode(tempfile.gettempdir())) <= _LONGEST_PLACE else "/tmp"
