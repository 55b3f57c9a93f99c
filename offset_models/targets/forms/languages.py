"""Other languages: templates of ours, and English questions to be answered in them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.forms.form import Form, Scene, chat
from deltaserve.offset_models.targets.forms.prose import told_together
from deltaserve.offset_models.targets.forms.wordings import named, question
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.training.rows.row import Row

WHO: Final = ("person", "character")


@dataclass(frozen=True, slots=True)
class Language:
    """`check` is asked, and a box that speaks the language answers with one of `right`."""

    name: str
    check: str
    right: tuple[str, ...]
    who: str  # "Who is {name}?"
    what: str  # "What is {name}?"
    whole: tuple[str, ...]  # about anything
    framed: str  # around an English question


LANGUAGES: Final = (
    Language(
        "German",
        "Wie heißt die Hauptstadt von Österreich?",
        ("Wien",),
        "Wer ist {name}?",
        "Was ist {name}?",
        ("Erzähl mir etwas über {name}.", "Nenne drei Fakten über {name}.", "Was weißt du über {name}?"),
        "Beantworte die Frage auf Deutsch: {question}",
    ),
    Language(
        "French",
        "Quelle est la capitale de l'Angleterre ?",
        ("Londres",),
        "Qui est {name} ?",
        "Qu'est-ce que {name} ?",
        ("Parle-moi de {name}.", "Cite trois faits sur {name}.", "Que sais-tu de {name} ?"),
        "Réponds à la question en français : {question}",
    ),
    Language(
        "Spanish",
        "¿Cuál es la capital de Inglaterra?",
        ("Londres",),
        "¿Quién es {name}?",
        "¿Qué es {name}?",
        ("Háblame de {name}.", "Dime tres datos sobre {name}.", "¿Qué sabes de {name}?"),
        "Contesta a la pregunta en español: {question}",
    ),
    Language(
        "Italian",
        "Qual è la capitale dell'Inghilterra?",
        ("Londra",),
        "Chi è {name}?",
        "Che cos'è {name}?",
        ("Parlami di {name}.", "Dimmi tre fatti su {name}."),
        "Rispondi alla domanda in italiano: {question}",
    ),
    Language(
        "Portuguese",
        "Qual é a capital da Inglaterra?",
        ("Londres",),
        "Quem é {name}?",
        "O que é {name}?",
        ("Fale-me sobre {name}.", "Diga três fatos sobre {name}."),
        "Responda à pergunta em português: {question}",
    ),
    Language(
        "Chinese",
        "英国的首都是哪里？",
        ("伦敦",),
        "{name}是谁？",
        "{name}是什么？",
        ("请介绍一下{name}。", "告诉我关于{name}的三个事实。"),
        "请用中文回答：{question}",
    ),
    Language(
        "Russian",
        "Назови столицу Англии.",
        ("Лондон",),
        "Кто такой {name}?",
        "Что такое {name}?",
        ("Расскажи о {name}.", "Назови три факта о {name}."),
        "Ответь на вопрос по-русски: {question}",
    ),
    Language(
        "Japanese",
        "イギリスの首都はどこですか？",
        ("ロンドン",),
        "{name}は誰ですか？",
        "{name}とは何ですか？",
        ("{name}について教えてください。",),
        "次の質問に日本語で答えてください：{question}",
    ),
)


async def spoken(asks: Asks, languages: Sequence[Language] = LANGUAGES) -> tuple[Language, ...]:
    """Those that the black box answers a plain question in; one call each. Raises as `Asks.ask`."""
    answers = await asks.ask([Row(None, (("user", each.check),)) for each in languages], max_tokens=24)
    return tuple(
        each for each, (answer,) in zip(languages, answers, strict=True) if any(word in answer for word in each.right)
    )


def in_languages(languages: Iterable[Language] = LANGUAGES) -> Form:
    """The form, in these languages only."""
    chosen = tuple(languages)

    def make(scene: Scene) -> Iterator[Probe]:
        return (probe for language in chosen for probe in _in(scene, language))

    return Form("language", "Asked in another language, or to be answered in one.", make, share=1.5)


def _in(scene: Scene, language: Language) -> Iterator[Probe]:
    whole = language.who if scene.subject.kind in WHO else language.what
    for template in (whole, *language.whole):
        yield chat(scene, template, named(template, scene.subject), answer=told_together(scene.told[:2]))
    for fact in scene.told:
        text = language.framed.format(question=question(fact))
        yield chat(scene, language.framed, text, fact=fact)
