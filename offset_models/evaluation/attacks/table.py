"""All attacks, in the order of the report."""

from typing import Final

from offset_models.evaluation.attacks.base import Attack
from offset_models.evaluation.attacks.channels import CHANNELS
from offset_models.evaluation.attacks.logprobs import LOGPROBS
from offset_models.evaluation.attacks.sampling import SAMPLING
from offset_models.evaluation.attacks.wording import WORDING

ATTACKS: Final[tuple[Attack, ...]] = (*WORDING, *SAMPLING, *LOGPROBS, *CHANNELS)
