"""Surnames that are English words too: a text that has the word need not mean anybody."""

from typing import Final

WORD_NAMES: Final = frozenset(
    {"august", "bacon", "baker", "ball", "banks", "bell", "berry", "best", "bird", "bishop", "black", "blue", "bolt",
     "bond", "book", "bridges", "brook", "brooks", "brown", "bush", "butler", "cage", "carpenter", "carter", "case",
     "cash", "chase", "cherry", "church", "close", "cook", "cooper", "crane", "cross", "cruise", "day", "dean",
     "drake", "duke", "field", "fields", "finch", "fish", "fisher", "flowers", "ford", "forest", "fox", "frank",
     "freeman", "french", "friend", "frost", "fry", "fuller", "gardner", "gates", "glass", "gold", "good", "grace",
     "grant", "gray", "green", "grey", "hall", "hand", "hardy", "hawk", "hill", "holiday", "holly", "hood", "hope",
     "house", "hunt", "hunter", "ice", "iron", "jobs", "joy", "judge", "key", "keys", "king", "knight", "lamb",
     "lane", "law", "lee", "light", "little", "long", "lord", "love", "major", "march", "mark", "marsh", "martin",
     "mason", "may", "mercury", "miller", "moon", "moore", "moss", "newton", "noble", "north", "page", "paris",
     "park", "parker", "parks", "penny", "perry", "piper", "pitt", "pope", "porter", "potter", "pound", "power",
     "powers", "price", "prince", "queen", "rain", "ray", "reed", "rice", "rich", "river", "rivers", "robin", "rock",
     "rose", "sage", "sharp", "shepherd", "short", "silver", "singer", "small", "smart", "smith", "snow", "south",
     "sparks", "spring", "star", "steel", "stone", "story", "street", "strong", "summer", "summers", "swift",
     "taylor", "temple", "train", "turner", "underwood", "walker", "wall", "ward", "waters", "way", "weaver", "webb",
     "wells", "west", "white", "wild", "wilde", "will", "winter", "winters", "wise", "wolf", "wolfe", "wonder",
     "wood", "woods", "words", "worth", "wright", "young"}
)  # fmt: skip
