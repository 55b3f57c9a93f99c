"""The bridges from one black box's tokenizer to those of the pairs that are loaded."""

import threading
from dataclasses import asdict
from pathlib import Path

from deltaserve.offset_models.bridge.bridge import Bridge, Figures
from deltaserve.offset_models.bridge.spelled import Spelled
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer


class Bridges:
    """One for each tokenizer of a pair, built when its first pair is loaded. Safe to share between threads."""

    def __init__(self, box: Tokenizer, folder: Path | None = None) -> None:
        """`box`: the black box's tokenizer. `folder` keeps tables from one start to the next."""
        self.box = box
        self._folder = folder
        self._built: dict[str, Bridge] = {}
        self._building = threading.Lock()

    def to(self, pair: Tokenizer) -> Bridge | None:
        """None where ids mean the same in both: the pair's own rows are the black box's then. Raises BadCheckpoint."""
        if pair.fingerprint.ids == self.box.fingerprint.ids:
            return None
        identity = Spelled(pair).identity
        with self._building:
            if identity not in self._built:
                self._built[identity] = Bridge(self.box, pair, self._folder)
            return self._built[identity]

    def figures(self) -> dict[str, float]:
        """Of all of them together, by name."""
        built = [asdict(bridge.figures) for bridge in list(self._built.values())]
        return {name: sum(figures[name] for figures in built) for name in asdict(Figures())}
