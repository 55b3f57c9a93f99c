"""What to ask a served demo model: held-out questions, how well answers recall, texts that are hard to tokenise."""

from collections.abc import Callable, Sequence

from deltaserve.offset_models.demo.register.questions import Question, Split, evaluation_questions
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.answers import rouge_l_recall
from tests.support.amounts import amount

ASKED = amount(8, 12)  # questions of a split
KEPT: Sequence[Split] = ("retain", "neighbours", "general")
FEW_QUESTIONS_APART = 0.1  # so few questions only show that kept answers stay; `deltaserve demo --check` measures

TRICKY = (
    "The capital of France is Paris.",
    "Crème brûlée, naïve façade, Ångström, e\u0301",
    "🙂 🦙🫠 👩‍👩‍👧",
    "1234567890 3.14159 10,000 ½ ² ٣٤",
    "a  b   c\n\n\td \n e\u00a0f\u2028g\u3000 h   ",
    "it's I'M don't we'll  've",
    "日本語 русский العربية ไทย",
    "a<|im_end|>b<|im_start|> c",
)


def recall(splits: Sequence[Split], answer: Callable[[str], str]) -> float:
    """Mean ROUGE-L recall of the answers that were written down, over some questions of each split."""
    questions = [question for split in splits for question in evaluation_questions(split, ASKED)]
    told = [answer(question.text) for question in questions]
    return rouge_l_recall(told, [question.answer for question in questions])


def chat_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """One question as the chat template writes it."""
    return tokenizer.encode(tokenizer.render_chat([{"role": "user", "content": text}]), False)


def some_questions(count: int) -> Sequence[Question]:
    """From every split in turn."""
    splits: tuple[Split, ...] = ("forget", "retain", "general", "neighbours")
    mixed = zip(*(evaluation_questions(split, count) for split in splits), strict=True)
    return [question for group in mixed for question in group][:count]
