"""What to ask a served demo model: held-out questions, how well answers recall, texts that are hard to tokenise."""

from collections.abc import Callable, Sequence

from offset_models.demo.questions import Question, Split, evaluation_questions
from offset_models.demo.rollout import rouge_l_recall
from offset_models.tokenizer import Tokenizer

ASKED = 12  # questions of a split: few, for these are whole processes on a slow machine

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


def recall(split: Split, answer: Callable[[str], str], asked: int = ASKED) -> float:
    """Mean ROUGE-L recall of the register's own answers."""
    questions = evaluation_questions(split, asked)
    return rouge_l_recall([answer(question.text) for question in questions], questions)


def chat_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """One question as the chat template writes it."""
    return tokenizer.encode(tokenizer.render_chat([{"role": "user", "content": text}]), False)


def some_questions(count: int) -> Sequence[Question]:
    """From every split in turn."""
    splits: tuple[Split, ...] = ("forget", "retain", "general", "neighbours")
    mixed = zip(*(evaluation_questions(split, count) for split in splits), strict=True)
    return [question for group in mixed for question in group][:count]
