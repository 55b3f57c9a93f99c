"""How the streams of one black box come by their drafts."""

from dataclasses import dataclass, field

from deltaserve.server.decoding.decoder import DraftSource
from deltaserve.server.decoding.drafting.acceptance import Accepted
from deltaserve.server.decoding.drafting.adaptive import AdaptiveSource, BlockLimits
from deltaserve.server.decoding.drafting.early_calls import EarlyCall, Records
from deltaserve.server.decoding.drafting.naming import Namer
from deltaserve.server.decoding.drafting.pace import Pace
from deltaserve.server.decoding.drafting.upstream import UpstreamSource
from deltaserve.server.decoding.protocols import BlockScorer, NamedIds, Upstream


@dataclass(slots=True)
class Drafting:
    """Makes the draft source of each stream. The sources share what they learn of the black box."""

    limits: BlockLimits
    early_calls: bool = True  # open calls early where the pair sees a restart coming
    pace: Pace = field(default_factory=Pace)
    records: Records = field(default_factory=Records)
    held: Accepted = field(
        default_factory=Accepted.shared
    )  # of constrained streams: a black box keeps to a form or not
    named_per_token: float | None = None  # calls that ask for ids by name; None: as many as are wanted

    def source(
        self,
        upstream: Upstream,
        scorer: BlockScorer | None,
        names: NamedIds | None = None,
        *,
        explained: bool = False,
        held: bool = False,
        forms: bool = False,
    ) -> DraftSource:
        """A source for one stream; without a `scorer` the pair drafts no blocks: they cannot be checked or do not pay.

        Without `names` no id is asked for by name. An explained stream shows what the black box chose, so the pair
        drafts none of it. A held stream has a constraint: where the black box's drafts hardly ever keep to one, blocks
        of the pair, which always do, are drafted from the beginning. `forms`: the black box may be sent the constraint.
        """
        blocks = scorer is not None and not explained
        # A call that is there already is taken: where every token is replaced no held stream would come to its blocks.
        early_call = EarlyCall(upstream, self.records) if self.early_calls and not (held and blocks) else None
        namer = None if names is None else Namer(names, self.named_per_token)
        streaming = UpstreamSource(upstream, early_call=early_call, namer=namer, forms=forms)
        if scorer is None or explained:
            return streaming
        accepted = self.held.another() if held else Accepted()
        return AdaptiveSource(streaming, scorer, self.pace, self.limits, accepted)
