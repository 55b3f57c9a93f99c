"""From a name to the rows of an offset: what the black box knows of a target, its neighbours, and forms to ask in.

The target of unlearning is all that is given, as in RWKU (Jin et al., 2024); the black box itself tells the rest.
"""
