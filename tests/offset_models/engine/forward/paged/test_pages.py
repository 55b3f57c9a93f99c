"""Pages of keys and values: what slots hold, share, give back and are refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaserve.errors import OffsetUnavailable
from deltaserve.offset_models.engine.forward.paged.pages import FIRST_CHUNK, PAGE, PagedKV, PageShape
from deltaserve.offset_models.engine.forward.prefix import SlotPool
from tests.support.amounts import examples

SHAPE = PageShape(layers=2, kv_heads=1, head_dim=4)
SLOTS, MAX_LEN = 3, 3 * PAGE


def pages(slots: int = SLOTS, max_len: int = MAX_LEN) -> PagedKV:
    return PagedKV(slots, max_len, SHAPE, torch.float32, torch.device("cpu"))


def write(kv: PagedKV, slot: int, start: int, values: list[int]) -> None:
    """As a forward does: pages are found through the table."""
    kv.reserve(slot, start, start + len(values))
    for position, value in enumerate(values, start):
        kv.page(int(kv.table[slot, position // PAGE]))[:, position % PAGE] = value


def read(kv: PagedKV, slot: int, length: int) -> list[int]:
    return [int(kv.page(int(kv.table[slot, p // PAGE]))[1, p % PAGE, 0, 0, 0]) for p in range(length)]


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> PagedKV:
    """A device with no memory beyond the first chunk, every page of which is taken by slot 0."""
    kv = pages(slots=4, max_len=PAGE * FIRST_CHUNK)
    monkeypatch.setattr(kv, "_affordable", lambda: 0)
    kv.reserve(0, 0, PAGE * (FIRST_CHUNK - 1))
    return kv


@settings(max_examples=examples(40), deadline=None)
@given(data=st.data())
def test_a_slot_reads_what_was_last_written_or_copied_into_it_whatever_the_others_do(data: st.DataObject) -> None:
    kv, held = pages(), {slot: [] for slot in range(SLOTS)}  # type: dict[int, list[int]]
    value = 0
    for _ in range(data.draw(st.integers(1, 12))):
        slot = data.draw(st.integers(0, SLOTS - 1))
        start = data.draw(st.integers(0, len(held[slot])))
        step = data.draw(st.sampled_from(["write", "copy", "keep", "clear"]))
        if step == "write":
            n = data.draw(st.integers(0, min(80, MAX_LEN - start)))
            new = list(range(value, value + n))
            value += n
            if n:
                write(kv, slot, start, new)
            held[slot][start:] = new
        elif step == "copy":
            source = data.draw(st.sampled_from([s for s in range(SLOTS) if s != slot]))
            stop = data.draw(st.integers(0, len(held[source])))
            start = min(start, stop)
            assert kv.copy(source, slot, start, stop) == stop
            held[slot][start:] = held[source][start:stop]
        else:
            length = start if step == "keep" else 0
            kv.keep(slot, length) if step == "keep" else kv.clear([slot])
            del held[slot][length:]
        for each, values in held.items():
            assert read(kv, each, len(values)) == values
    for slot, values in held.items():
        kv.keep(slot, len(values))
    assert kv.used_pages <= sum(-(-len(values) // PAGE) for values in held.values())
    kv.clear(range(SLOTS))
    assert kv.used_pages == 0


def test_memory_is_reserved_as_it_is_used_and_never_moves() -> None:
    kv = pages(slots=64, max_len=4096)
    most = 64 * 4096 * 2 * 2 * 4 * 4  # positions, layers, keys and values, dim, bytes
    assert kv.nbytes < most / 60
    before, address = kv.nbytes, kv.anchor.data_ptr()
    write(kv, 0, 0, [1, 2, 3])
    kv.reserve(1, 0, 64 * PAGE)
    assert kv.nbytes == 2 * before
    assert kv.anchor.data_ptr() == address
    assert read(kv, 0, 3) == [1, 2, 3]
    for slot in range(64):
        kv.reserve(slot, 0, 4096)
    assert most <= kv.nbytes <= most + PAGE * 64


def test_a_prefix_is_held_once_by_all_who_have_it() -> None:
    kv = pages()
    write(kv, 0, 0, list(range(2 * PAGE)))
    kv.copy(0, 1, 0, 2 * PAGE)
    kv.copy(0, 2, 0, 2 * PAGE)
    assert kv.used_pages == 2
    write(kv, 1, PAGE + 5, [99])  # the second page is its own now, with what stood before
    assert kv.used_pages == 3
    assert read(kv, 1, PAGE + 6) == [*range(PAGE + 5), 99]
    assert read(kv, 0, 2 * PAGE) == read(kv, 2, 2 * PAGE) == list(range(2 * PAGE))


def test_what_a_slot_gives_back_is_taken_before_memory_is(full: PagedKV) -> None:
    held = full.nbytes
    full.keep(0, 10 * PAGE)
    full.reserve(1, 0, (FIRST_CHUNK - 11) * PAGE)
    assert full.nbytes == held
    with pytest.raises(OffsetUnavailable, match="No memory is left on the device"):
        full.reserve(1, 0, (FIRST_CHUNK - 10) * PAGE)


def test_ended_streams_give_their_prefixes_up_when_memory_is_short_the_oldest_first(full: PagedKV) -> None:
    full.clear([0])
    pool = SlotPool(4, 8, full)
    full.spare = pool.spare
    ended = [pool.acquire(None, [n] * 20 * PAGE) for n in range(3)]
    for slot in ended:
        full.reserve(slot.index, 0, 20 * PAGE)
        slot.length = 20 * PAGE
    for slot in (ended[1], ended[0]):
        pool.release(slot)
    new = pool.acquire(None, [7] * 30 * PAGE)
    full.reserve(new.index, 0, 20 * PAGE)
    assert [slot.length for slot in ended] == [20 * PAGE, 0, 20 * PAGE]
    with pytest.raises(OffsetUnavailable):
        full.reserve(new.index, 0, 50 * PAGE)
    assert [slot.length for slot in ended] == [0, 0, 20 * PAGE]  # who runs keeps what it has


def test_a_prefix_that_finds_no_memory_for_its_last_page_is_shared_up_to_it(full: PagedKV) -> None:
    assert full.copy(0, 1, 0, 2 * PAGE + 5) == 2 * PAGE
    full.keep(0, PAGE * (FIRST_CHUNK - 2))
    assert full.copy(0, 1, 0, 2 * PAGE + 5) == 2 * PAGE + 5
