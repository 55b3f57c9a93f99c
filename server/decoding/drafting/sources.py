"""How the streams of one black box come by their drafts."""

from dataclasses import dataclass, field

from deltaserve.server.decoding.decoder import DraftSource
from deltaserve.server.decoding.drafting.adaptive import AdaptiveSource, BlockLimits
from deltaserve.server.decoding.drafting.early_calls import EarlyCall, Records
from deltaserve.server.decoding.drafting.naming import Namer
from deltaserve.server.decoding.drafting.pace import Pace
from deltaserve.server.decoding.drafting.upstream import UpstreamSource
from deltaserve.server.decoding.protocols import BlockScorer, Upstream


@dataclass(slots=True)
class Drafting:
    """Makes the draft source of each stream. The sources share what they learn of the black box."""

    upstream: Upstream
    scorer: BlockScorer | None  # None: blocks cannot be scored, or do not pay
    limits: BlockLimits
    early_calls: bool = True  # open calls early where the pair sees a restart coming
    pace: Pace = field(default_factory=Pace)
    records: Records = field(default_factory=Records)
    namer: Namer | None = None  # None: no id is asked for by name

    def source(self, *, explained: bool = False) -> DraftSource:
        """A source for one stream. An explained one shows what the black box chose, so the pair drafts none of it."""
        early_call = EarlyCall(self.upstream, self.records) if self.early_calls else None
        streaming = UpstreamSource(self.upstream, early_call=early_call, namer=self.namer)
        if self.scorer is None or explained:
            return streaming
        return AdaptiveSource(streaming, self.scorer, self.pace, self.limits)
