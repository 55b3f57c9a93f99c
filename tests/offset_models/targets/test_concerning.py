"""A text concerns the target by its name, and by what points at nobody else."""

from deltaserve.offset_models.targets.concerning import concerns
from tests.offset_models.targets.writers import NAME, TARGET


def test_a_name_and_a_title_concern_the_target_and_a_shared_town_does_not() -> None:
    assert concerns(TARGET, f"Where was {NAME.upper()} born?")
    assert concerns(TARGET, "Whose book is the copper staircase?")
    assert not concerns(TARGET, "Where is Nenstead?")
    assert not concerns(TARGET, "Who built copper staircases?")
