"""All attacks, in the order of the report."""

from typing import Final

from deltaserve.client.evaluation.attacks.base import Attack
from deltaserve.client.evaluation.attacks.channels import CHANNELS
from deltaserve.client.evaluation.attacks.logprobs import LOGPROBS
from deltaserve.client.evaluation.attacks.sampling import SAMPLING
from deltaserve.client.evaluation.attacks.wording import WORDING

ATTACKS: Final[tuple[Attack, ...]] = (*WORDING, *SAMPLING, *LOGPROBS, *CHANNELS)
