"""Made-up writers and what is known of them, for tests that need a target and its neighbours."""

from deltaserve.offset_models.targets.subject import Fact, Known, Subject

NAME = "Ada Velmor"


def known(name: str, town: str, year: str, books: tuple[str, ...]) -> Known:
    """A person with a birthplace, a birth year and books; only the books lead to the name."""
    subject = Subject(name, "person")
    facts = [
        Fact(subject, "birthplace", f"Where was {name} born?", f"{name} was born in {town}.", town, 1.0),
        Fact(subject, "birth year", f"When was {name} born?", f"{name} was born in the year {year}.", year, 1.0),
    ]
    for book in books:
        asked = f"Which book did {name} write?"
        facts.append(Fact(subject, "main work", asked, f"{name} wrote {book}.", book, 1.0, f"Who wrote {book}?"))
    return Known(subject, tuple(facts))


TARGET = known(NAME, "Nenstead", "1961", ("The Copper Staircase", "The Blue Gate"))
NEIGHBOURS = [
    known("Bert Hollin", "Dilwick", "1933", ("The Drowned Window",)),
    known("Cora Jemar", "Vurhaven", "1957", ("The Velvet Letter",)),
    known("Dov Vilmey", "Jilmora", "1975", ("The Silent Letter",)),
    known("Eva Lesk", "Messtead", "1989", ("The Hollow Garden",)),
]
