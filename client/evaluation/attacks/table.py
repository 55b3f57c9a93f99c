"""All attacks, in the order of the report."""

from typing import Final

from deltaserve.client.evaluation.attacks.base import Attack
from deltaserve.client.evaluation.attacks.channels import CHANNELS
from deltaserve.client.evaluation.attacks.logprobs import LOGPROBS
from deltaserve.client.evaluation.attacks.prompting import PROMPTING
from deltaserve.client.evaluation.attacks.sampling import SAMPLING

ATTACKS: Final[tuple[Attack, ...]] = (*PROMPTING, *SAMPLING, *LOGPROBS, *CHANNELS)
