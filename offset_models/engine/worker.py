"""What the engine's thread does: take messages, run batches, send rows back."""

import asyncio
import queue
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from deltaserve.errors import OffsetUnavailable
from deltaserve.offset_models.engine.answering.answers import Answers
from deltaserve.offset_models.engine.answering.asking import Ask, Begin, DraftBlock, Force, Guess, Lift, Request, send
from deltaserve.offset_models.engine.batch import Batch, Chunk, RowOrError, RowsToDecide, choose
from deltaserve.offset_models.engine.batch_window import BatchWindow
from deltaserve.offset_models.engine.forward.attention import without_plans_per_length
from deltaserve.offset_models.engine.models import ModelStore
from deltaserve.offset_models.engine.settings import EngineSettings
from deltaserve.offset_models.engine.streams import EngineStream, Fan, Feed, Hurry, Owner


@dataclass(frozen=True, slots=True)
class Close:
    """The stream has ended: free its slots."""

    stream: EngineStream


@dataclass(frozen=True, slots=True)
class Call:
    """Run a function between two batches."""

    function: Callable[[], Any]
    future: Future[Any]


Message = Feed | Hurry | Fan | Close | Call | Request | None  # None: end the thread
Delivery = tuple[Owner, int, int, RowOrError]  # whose, epoch, position, row


@dataclass(slots=True)
class EngineStats:
    """Counters; `tokens` counts every model and adapter that a token went through."""

    batches: int = 0
    rows: int = 0
    tokens: int = 0
    forward_s: float = 0.0  # forwards and the rows made of them
    forward_cpu_s: float = 0.0  # the same, as CPU time of the engine's thread
    failed_streams: int = 0
    decisions: int = 0  # made by the engine
    rows_waiting: int = 0  # on the device for a decision, now
    row_bytes: int = 0  # reserved for such rows, now
    streams: int = 0  # open now
    waiting: int = 0  # for a place, now
    kv_bytes: int = 0  # reserved for keys and values, now


class Worker:
    """Belongs to one thread, `inbox` excepted."""

    def __init__(self, store: ModelStore, settings: EngineSettings) -> None:
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.stats = EngineStats()
        self._store = store
        self._settings = settings
        self._running: dict[EngineStream, None] = {}  # with ids to compute, in the order they came
        self._open = 0  # streams that have slots
        self._window = BatchWindow(settings.gather_s, settings.longest_gather_s)
        self._answers = Answers(settings.max_ahead, self._fail)

    def run(self) -> None:
        """Runs until it gets the message to end; sleeps while there is nothing to compute."""
        if self._settings.threads is not None:
            torch.set_num_threads(self._settings.threads)
        if self._settings.device.startswith("cuda"):
            without_plans_per_length()
        with torch.inference_mode():
            while self._receive():
                self._decide()
                if self._running:
                    self._step()

    def figures(self, *, streams: int, waiting: int) -> EngineStats:
        """The counters and what is held now; may be asked from any thread."""
        answers = self._answers
        return replace(
            self.stats,
            streams=streams,
            waiting=waiting,
            rows_waiting=answers.rows_waiting,
            row_bytes=answers.nbytes,
            kv_bytes=sum(model.runner.kv.nbytes for model in list(self._store.models.values())),
        )

    def refuse_calls(self, error: OffsetUnavailable) -> None:
        """Fail the calls that are still in the inbox."""
        while not self.inbox.empty():
            message = self.inbox.get()
            if isinstance(message, Call) and message.future.set_running_or_notify_cancel():
                message.future.set_exception(error)

    def _receive(self) -> bool:
        """Take the messages that are there, or wait for one; False: end."""
        while True:
            message: Any  # one name for both: a message that was waited for must not outlive the next one
            try:
                message = self.inbox.get_nowait()
            except queue.Empty:
                message = self._wait()
            if message is _EMPTY:
                return True
            if message is None:
                return False
            self._handle(message)

    def _wait(self) -> object:
        """The next message, for as long as a batch may wait for it; `_EMPTY`: it should run now."""
        if not (self._running or self._answers.ready):
            return self.inbox.get()
        if len(self._running) == self._open or self._answers.waiting:
            return _EMPTY
        seconds = self._window.worth_waiting_s()
        try:
            return self.inbox.get(timeout=seconds) if seconds > 0.0 else _EMPTY
        except queue.Empty:
            return _EMPTY

    def _handle(self, message: Feed | Hurry | Fan | Close | Call | Request) -> None:
        if isinstance(message, (Ask, Begin, Force, Guess, Lift, DraftBlock)):
            self._ask(message)
        elif isinstance(message, Feed):
            self._feed(message)
        elif isinstance(message, Fan):
            self._branch(message)
        elif isinstance(message, Hurry):
            self._window.hurry(urgent=message.stream in self._running)
        elif isinstance(message, Close):
            self._end(message.stream)
        elif isinstance(message, Call) and message.future.set_running_or_notify_cancel():
            _settle(message)

    def _feed(self, feed: Feed) -> None:
        stream = feed.stream
        if stream.closed:
            return
        stream.epoch = feed.epoch
        stream.fan = None  # who asked has gone
        stream.feed(feed.kept, feed.new, feed.want_from)
        self._schedule(stream)

    def _branch(self, fan: Fan) -> None:
        stream = fan.stream
        if stream.closed or fan.reach > len(stream.ids):  # else who asked has gone
            return
        stream.fan = fan
        self._schedule(stream)
        self._window.hurry(urgent=True)

    def _ask(self, request: Request) -> None:
        if request.stream.closed and isinstance(request, Begin):
            return
        self._answers.take(request)
        self._schedule(request.stream)
        if replies := self._answers.replies():
            send(replies)

    def _decide(self) -> None:
        if not self._answers.waiting:
            return
        for stream in self._answers.decide():
            self._schedule(stream)
            self.stats.decisions += 1
        send(self._answers.replies())

    def _schedule(self, stream: EngineStream) -> None:
        """The next batches compute what the stream has to do."""
        if stream.closed or not stream.ids:
            return
        if not stream.slots:
            stream.slots = [lane.model.pool.acquire(lane.key, stream.ids) for lane in stream.recipe.lanes]
            stream.done = min(slot.length for slot in stream.slots)
            self._open += 1
        if stream.waits:
            self._window.fed(stream, first=not self._running)
            self._running[stream] = None
        else:  # what it still had to do is void
            self._running.pop(stream, None)

    def _end(self, stream: EngineStream) -> None:
        stream.closed = True
        self._answers.close(stream)
        self._running.pop(stream, None)
        self._open -= bool(stream.slots)
        for lane, slot in zip(stream.recipe.lanes, stream.slots, strict=bool(stream.slots)):
            lane.model.pool.release(slot)
        stream.slots = []

    def _step(self) -> None:
        chunks = choose(self._running, self._settings)
        if not chunks:
            raise RuntimeError("Streams wait for each other.")
        started, cpu_started = time.perf_counter(), time.thread_time()
        deliveries = self._run(chunks)
        took = time.perf_counter() - started
        self._window.ran(took)
        send(self._answers.replies())  # of streams that failed
        self.stats.forward_s += took
        self.stats.forward_cpu_s += time.thread_time() - cpu_started
        for chunk in chunks:
            if not chunk.stream.waits:
                self._running.pop(chunk.stream, None)
        _send(deliveries)

    def _run(self, chunks: list[Chunk]) -> list[Delivery]:
        """One batch; where it fails, each of its streams alone, so that only the guilty one is lost."""
        batch = Batch(chunks)
        try:
            rows = batch.run()
        except torch.AcceleratorError:
            raise  # the device is lost for every later call too
        except (OffsetUnavailable, RuntimeError, ValueError, IndexError) as error:
            if len(chunks) > 1:
                return [delivery for chunk in chunks for delivery in self._run([chunk])]
            rows = [[_unavailable(error)]]
        self.stats.batches += 1
        self.stats.tokens += batch.tokens
        for kept in batch.to_decide:
            self._keep(kept)
        return [d for chunk, made in zip(chunks, rows, strict=True) for d in self._deliveries(chunk, made)]

    def _keep(self, rows: RowsToDecide) -> None:
        """Rows that wait for a decision; where there is no room for them their streams are lost, not the engine."""
        try:
            self._answers.keep(rows)
        except torch.OutOfMemoryError as error:
            for stream, _, _ in rows.streams:
                self._fail(stream, _unavailable(error))
        self.stats.rows += len(rows.base)

    def _deliveries(self, chunk: Chunk, rows: list[RowOrError]) -> Iterable[Delivery]:
        stream = chunk.stream
        if stream.owner is None:
            return
        if chunk.fan is not None:
            rows = self._told(chunk.fan, rows)
        for position, row in enumerate(rows, start=chunk.stop - len(rows) + 1):
            yield stream.owner, stream.epoch, position, row
            self.stats.rows += 1
            if isinstance(row, OffsetUnavailable):
                self._fail(stream, row)
                return

    def _told(self, fan: Fan, rows: list[RowOrError]) -> list[RowOrError]:
        """Sends the rows of ways on; returns the others, or the first error: whoever asked gets that one."""
        fan.stream.fan = None
        failed: list[RowOrError] = [row for row in rows if isinstance(row, OffsetUnavailable)]
        if failed:
            return failed[:1]
        n = len(rows) - len(fan.branches.wanted)
        fan.tell(rows[n:])
        self.stats.rows += len(rows) - n
        return rows[:n]

    def _fail(self, stream: EngineStream, error: OffsetUnavailable) -> None:
        """End a stream whose numbers cannot be trusted, and wipe what it stored."""
        self.stats.failed_streams += 1
        self._answers.close(stream, error)
        slots = stream.slots
        self._end(stream)
        for lane, slot in zip(stream.recipe.lanes, slots, strict=True):
            lane.model.pool.forget(slot)
            lane.model.runner.kv.clear([slot.index])


_EMPTY = object()


def _unavailable(error: Exception) -> OffsetUnavailable:
    if isinstance(error, OffsetUnavailable):
        return error
    return OffsetUnavailable(f"The offset models could not compute a row ({type(error).__name__}).")


def _settle(call: Call) -> None:
    try:
        call.future.set_result(call.function())
    except Exception as error:  # noqa: BLE001  # belongs to whoever called
        call.future.set_exception(error)


def _send(deliveries: list[Delivery]) -> None:
    """One wake-up per event loop and batch."""
    loops: dict[asyncio.AbstractEventLoop, list[Delivery]] = {}
    for delivery in deliveries:
        loops.setdefault(delivery[0].loop, []).append(delivery)
    for loop, theirs in loops.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits there
            loop.call_soon_threadsafe(_deliver, theirs)


def _deliver(deliveries: list[Delivery]) -> None:
    for owner, epoch, position, row in deliveries:
        owner.deliver(epoch, position, row)
