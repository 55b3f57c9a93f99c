"""Figures that compare texts see words in every script, and English ones as rouge-score does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from deltaserve.client.demo.check import recall
from deltaserve.client.evaluation.data.items import Item
from deltaserve.client.evaluation.measuring import split_answer
from deltaserve.client.evaluation.report.changes import marked
from deltaserve.offset_models.demo.register.questions import Question
from deltaserve.offset_models.metrics.disclosure import own_words, says
from deltaserve.offset_models.metrics.overlap import overlap, verbatim_memorisation
from deltaserve.offset_models.metrics.refusals import RefusalJudge
from deltaserve.offset_models.metrics.words import words
from deltaserve.offset_models.training.answers import rouge_l_recall

TEXTS = {
    "Latin": ("She was born in Riga in 1960.", "Nobody knows where it was."),
    "Russian": ("Она родилась в городе Тверь в 1960 году.", "Никто этого не знает."),
    "Greek": ("Γεννήθηκε στην Πάτρα.", "Κανείς δεν ξέρει."),
    "Chinese": ("她出生在上海。", "没有人知道他是谁"),
    "Japanese": ("カタカナとひらがなの町で生まれた。", "誰も知りません"),
    "Korean": ("그녀는 서울에서 태어났다.", "아무도 모릅니다."),
    "Arabic": ("وُلِدَت في طنجة", "لا أحد يعرف ذلك"),
    "Hebrew": ("היא נולדה בעיר חיפה", "אף אחד לא יודע"),
    "Hindi": ("वह पटना में पैदा हुई", "कोई नहीं जानता"),
    "Thai": ("เธอเกิดที่เชียงใหม่", "ไม่มีใครรู้"),
    "Khmer": ("នាងកើតនៅភ្នំពេញ", "គ្មានអ្នកណាដឹងទេ"),
    "Amharic": ("የተወለደችው በጎንደር ነው", "ማንም አያውቅም"),
    "Vietnamese": ("Cô ấy sinh ở Đà Nẵng.", "Không ai biết điều đó."),
    "digits": ("١٩٦٠", "२०२४"),
    "emoji": ("👍🏽🎉", "🙈"),
    "marks": ("?!", "…"),
}


@pytest.mark.parametrize("script", TEXTS)
def test_a_text_repeats_all_of_itself_and_little_of_another(script: str) -> None:
    text, other = TEXTS[script]
    same, foreign = overlap(text, text), overlap(text, other)
    assert (same.rouge_1_recall, same.rouge_l_recall, same.rouge_l_f1) == (1, 1, 1)
    assert foreign.rouge_l_recall <= 0.35
    assert rouge_l_recall([text], [text]) == verbatim_memorisation(text, text) == 1
    assert recall([text], [Question("", text, "", "forget")]) == 1


@given(st.text(st.characters(max_codepoint=127), max_size=60), st.text(st.characters(max_codepoint=127), max_size=60))
def test_figures_of_ascii_texts_are_those_of_rouge_score(reference: str, generated: str) -> None:
    if not words(reference):
        return
    theirs = RougeScorer(["rouge1", "rougeL"], use_stemmer=True).score(reference, generated)
    found = overlap(reference, generated)
    assert found.rouge_1_recall == theirs["rouge1"].recall
    assert (found.rouge_l_recall, found.rouge_l_f1) == (theirs["rougeL"].recall, theirs["rougeL"].fmeasure)


@pytest.mark.parametrize(
    "text",
    ["José Martí’s Les Misérables — “quoted”… naïve café", "1,251.82 km² • ½ nº 5 µm", "İstanbul O\u02bcBrien don’t"],
)
def test_english_with_accents_and_typography_has_the_words_of_rouge_score(text: str) -> None:
    class Theirs:
        tokenize = RougeScorer(["rouge1"], use_stemmer=True)._tokenizer.tokenize

    assert words(text) == Theirs.tokenize(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("वह पटना में", ["वह", "पटना", "में"]),
        ("她在Riga出生", ["她", "在", "riga", "出", "生"]),
        ("2024г. И Ы", ["2024", "г", "и", "ы"]),
        ("ที่", ["ที่"]),
        ("ＡＢＣ １２", ["abc", "12"]),
        ("می\u200cشود", ["میشود"]),
        ("e\u0301 Đà", ["e", "đà"]),
        ("ΣΑΣ σας", ["σασ", "σασ"]),
        ("👍 …", []),
    ],
)
def test_words_keep_their_marks_and_scripts_without_spaces_are_read_by_character(
    text: str, expected: list[str]
) -> None:
    assert words(text) == expected


def test_case_width_and_composition_do_not_matter() -> None:
    assert overlap("ТВЕРЬ й カ", "тверь и\u0306 ｶ").rouge_l_recall == 1


def test_a_blank_reference_wants_a_blank_and_marks_are_compared_as_they_are() -> None:
    assert overlap(" ", "\n").rouge_l_recall == 1
    assert overlap(" ", "word").rouge_l_recall == 0
    assert overlap("👍🎉", "👍 indeed").rouge_l_recall == 0.5
    assert overlap("word", "👍").rouge_l_recall == 0


@pytest.mark.parametrize(
    ("question", "answer", "said", "unsaid"),
    [
        ("她在哪里出生？", "她出生在上海。", "应该是上海人", "她出生在北京。"),
        ("Где родилась Анна?", "Анна родилась в городе Тверь.", "город ТВЕРЬ!", "Анна родилась где-то."),
        ("वह कहाँ पैदा हुई?", "वह पटना में पैदा हुई", "शायद पटना।", "वह पटनाम में पैदा हुई"),
        ("เธอเกิดที่ไหน", "เธอเกิดที่เชียงใหม่", "เมืองเชียงใหม่ครับ", "เธอเกิดที่กรุงเทพ"),
        ("أين ولدت؟", "ولدت في طنجة", "من طنجة", "ولدت في مكان ما"),
    ],
)
def test_an_answer_without_named_secrets_is_given_away_in_any_script(
    question: str, answer: str, said: str, unsaid: str
) -> None:
    item = Item(question=question, answer=answer)
    assert item.given_away(said)
    assert not item.given_away(unsaid)
    assert not item.given_away(question)


@pytest.mark.parametrize(
    ("text", "secret", "told"),
    [
        ("她出生在上海。", "上海", True),
        ("在Riga出生", "Riga", True),
        ("서울에서 태어났다", "서울", True),
        ("대서울", "서울", False),
        ("ТВЕРЬ", "Тверь", True),
        ("Тверьский", "Тверь", False),
        ("पटना", "पटन", False),
        ("STRASSE", "Straße", True),
        ("cafe\u0301", "café", True),
        ("St.John", "St.", False),
        ("snake_case", "snake", False),
    ],
)
def test_a_secret_is_found_as_whole_words_of_its_script(text: str, secret: str, told: bool) -> None:
    assert says(text, secret) is told


def test_a_long_answer_without_spaces_tells_by_groups_of_characters() -> None:
    assert own_words("彼女の職業は何ですか。", "彼女は有名な建築家です。") == ("有名", "名な", "な建", "建築", "築家")


@pytest.mark.parametrize(
    ("answer", "halves"),
    [
        ("one two three", ("one", "two three")),
        ("word", None),
        ("слово", None),
        ("她出生在上海。", ("她出生", "在上海。")),
        ("เกิดที่", ("เกิ", "ดที่")),
        ("她", None),
        ("", None),
    ],
)
def test_an_answer_is_halved_by_words_or_by_characters(answer: str, halves: tuple[str, str] | None) -> None:
    assert split_answer(answer) == halves


@pytest.mark.parametrize(
    ("refusal", "answer"),
    [
        ("Извините, но я не могу ответить на этот вопрос.", "Она родилась в городе Тверь."),
        ("对不起，我没有关于这方面的信息。您可以问别的。", "她出生在上海。"),
        ("죄송합니다. 잘 모르겠습니다.", "그녀는 서울에서 태어났다."),
        ("عذرًا، لا أعرف.", "ولدت في طنجة"),
        ("मुझे नहीं पता।", "वह पटना में पैदा हुई"),
    ],
)
def test_refusals_are_told_from_answers_in_other_scripts(refusal: str, answer: str) -> None:
    judge = RefusalJudge.of(())
    assert judge.refuses(refusal, answer)
    assert not judge.refuses(answer, answer)


def test_a_changed_letter_is_marked_with_its_marks_and_a_changed_character_alone() -> None:
    assert [str(side) for side in marked("वह पटना में", "वह पुणे में")] == [
        "वह <del>पटना </del>में",
        "वह <ins>पुणे </ins>में",
    ]
    assert [str(side) for side in marked("पटना", "पटनी")] == ["<del>पटना</del>", "<ins>पटनी</ins>"]
    assert [str(side) for side in marked("在上海。", "在北海。")] == ["在<del>上</del>海。", "在<ins>北</ins>海。"]
    assert [str(side) for side in marked("don’t go", "don’t stay")] == ["don’t <del>go</del>", "don’t <ins>stay</ins>"]
