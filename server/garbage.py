"""What a started process holds, and Python's search for circles of objects that nobody holds any more."""

import gc


def keep_what_is_there() -> None:
    """Later searches look at what requests make alone, and come as often as that asks for.

    A search of everything stops every thread for 0.25 s where torch is imported, so what is there now is put aside. But
    CPython (3.11) searches the oldest objects only once a quarter as many have come to them as the last such search
    found, and that number stays: some 100,000 objects, or 20 MB of what faults leave behind, would wait. So it is
    searched once more, when there is next to nothing.
    """
    gc.collect()
    gc.freeze()
    gc.collect()
