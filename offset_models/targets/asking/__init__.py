"""How targets ask the black box: the protocol that stages see, and the asker that keeps a budget and a journal."""

from deltaserve.offset_models.targets.asking.asks import Asks

__all__ = ["Asks"]
