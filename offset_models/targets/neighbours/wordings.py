"""How neighbours are asked for. {name} is the target's, {value} what it shares with them."""

from typing import Final

from deltaserve.offset_models.targets.subject import Kind

ONLY: Final = " Write only the names, one per line."  # what a black box that lists obeys, and others do not mind

# The nearest in kind, then others that are as well known.
SIMILAR: Final[dict[Kind, tuple[str, ...]]] = {
    "person": (
        "Name ten people who are similar to {name}.",
        "Name ten other people who are known for the same things as {name}.",
    ),
    "character": (
        "Name ten characters who are similar to {name}.",
        "Name ten other characters from the same story as {name}.",
    ),
    "work": (
        "Name ten works that are similar to {name}.",
        "Name ten famous works of the same kind as {name}, by other people.",
    ),
    "organisation": (
        "Name ten companies or organisations that are similar to {name}.",
        "Which other companies or organisations compete with {name}? Name ten.",
    ),
    "product": (
        "Name ten products that are similar to {name}.",
        "Which products of other makers compete with {name}? Name ten.",
    ),
    "place": ("Name ten places that are similar to {name}.", "Name ten other places near {name}."),
    "event": ("Name ten events that are similar to {name}.", "Name ten other events of the same time as {name}."),
    "topic": ("Name ten topics that are similar to {name}.", "Name ten other topics of the same field as {name}."),
}

# By attribute of the kind: others that have the same value. What far too many share, a nationality, is not here.
SHARING: Final[dict[Kind, dict[str, str]]] = {
    "person": {
        "profession": "Name five famous people whose profession is {value}.",
        "genre": "Name five famous people who are known for {value}.",
        "award": "Name five famous people who won the {value}.",
        "birthplace": "Name five famous people who were born in {value}.",
        "birth year": "Name five famous people who were born in {value}.",
        "education": "Name five famous people who studied at {value}.",
        "residence": "Name five famous people who live in {value}.",
        "instrument": "Name five famous people who play the {value}.",
        "organisation": "Name five other people of {value}.",
    },
    "character": {
        "work": "Name five other characters from {value}.",
        "creator": "Name five other characters by {value}.",
        "occupation": "Name five characters who are {value}.",
        "ability": "Name five characters with this ability: {value}.",
    },
    "work": {
        "author": "Name five other works by {value}.",
        "director": "Name five other films by {value}.",
        "artist": "Name five other songs or albums by {value}.",
        "developer": "Name five other games by {value}.",
        "genre": "Name five works of this genre: {value}.",
        "year": "Name five works that came out in {value}.",
        "theme": "Name five works about {value}.",
        "setting": "Name five other works that are set in {value}.",
        "award": "Name five works that won the {value}.",
    },
    "organisation": {
        "industry": "Name five companies or organisations in the field of {value}.",
        "seat": "Name five companies or organisations with their seat in {value}.",
        "founding year": "Name five companies or organisations that were founded in {value}.",
        "competitor": "Name five companies or organisations that are similar to {value}.",
    },
    "product": {
        "maker": "Name five other products of {value}.",
        "kind": "Name five products of this kind: {value}.",
        "rival": "Name five products that are similar to {value}.",
        "year": "Name five products that came out in {value}.",
    },
    "place": {
        "country": "Name five other places in {value}.",
        "location": "Name five other places in {value}.",
        "water": "Name five other places at {value}.",
    },
    "event": {
        "year": "Name five other events of the year {value}.",
        "place": "Name five other events in {value}.",
        "leader": "Name five other events in which {value} took part.",
    },
    "topic": {
        "field": "Name five other topics of {value}.",
        "originator": "Name five other ideas of {value}.",
        "opposite": "Name five topics that are similar to {value}.",
    },
}

# Others with a word of the target's name.
NAMESAKES: Final[dict[Kind, str]] = {
    "person": "Name five other famous people with the surname {word}.",
    "character": "Name five other characters with the name {word}.",
    "work": 'Name five other works with the word "{word}" in the title.',
    "organisation": 'Name five other companies or organisations with the word "{word}" in the name.',
    "product": 'Name five other products with the word "{word}" in the name.',
    "place": 'Name five other places with the word "{word}" in the name.',
    "event": 'Name five other events with the word "{word}" in the name.',
    "topic": 'Name five other topics with the word "{word}" in the name.',
}
