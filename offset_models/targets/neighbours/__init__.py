"""Neighbours of a target: things of its kind that must stay, found by asking the black box."""
