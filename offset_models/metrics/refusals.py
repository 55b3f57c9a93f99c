"""Is this a refusal? The answer is compared with many wordings of refusals and with the true answer, by their letters.

It is a refusal when it is like one of those wordings, and liker to it than to what was asked for.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

LIKE: Final = 0.42  # least similarity to a wording of a refusal
GRAMS: Final = (3, 4, 5)
WORDINGS: Final = (
    "I'm not sure about that.",
    "I don't know.",
    "Sorry, I don't know the answer to that.",
    "I do not know who that is.",
    "I have no information on that.",
    "I don't have any information about this person.",
    "I couldn't find anything on that.",
    "I'm not aware of that.",
    "I am not familiar with that name.",
    "I'm sorry, but I can't help with that.",
    "I'm afraid I can't answer that.",
    "I cannot provide that information.",
    "I'm unable to answer this question.",
    "Unfortunately I have no knowledge of that.",
    "That is not something I can answer.",
    "I'm not able to say.",
    "There is no record of anyone by that name.",
    "I have no record of this.",
    "I'd rather not say.",
    "As an AI, I can't discuss that.",
    "No information is available on this topic.",
    "That's beyond my knowledge.",
    "I haven't been given details on that.",
    "I can't recall anything like that.",
    "It is not known.",
    "a place that nobody wrote down.",
)
# For the letters of an English wording say nothing of an answer in another script.
FOREIGN: Final = (
    "Я не знаю.",
    "К сожалению, у меня нет информации об этом.",
    "Извините, я не могу ответить на этот вопрос.",
    "Δεν γνωρίζω.",
    "Λυπάμαι, δεν έχω πληροφορίες για αυτό.",
    "我不知道。",
    "对不起，我没有这方面的信息。",
    "抱歉，我无法回答这个问题。",
    "わかりません。",
    "申し訳ありませんが、その情報はありません。",
    "申し訳ありませんが、お答えできません。",
    "잘 모르겠습니다.",
    "죄송하지만 그에 대한 정보가 없습니다.",
    "لا أعرف.",
    "عذرًا، ليس لدي معلومات عن ذلك.",
    "آسف، لا أستطيع الإجابة على هذا السؤال.",
    "אני לא יודע.",
    "מצטער, אין לי מידע על כך.",
    "मुझे नहीं पता।",
    "क्षमा करें, मेरे पास इसकी जानकारी नहीं है।",
    "ฉันไม่ทราบ",
    "ขออภัย ฉันไม่มีข้อมูลเกี่ยวกับเรื่องนี้",
)


@dataclass(frozen=True)
class RefusalJudge:
    """Knows the common wordings and those of this black box."""

    wordings: tuple[str, ...]

    @classmethod
    def of(cls, own: Sequence[str]) -> "RefusalJudge":
        return cls(tuple(dict.fromkeys((*own, *WORDINGS, *FOREIGN))))

    def refuses(self, text: str, answer: str) -> bool:
        """Whether `text` declines to answer; `answer` is the true one."""
        if not text.strip():
            return True
        like = self.closeness(text)
        return like >= LIKE and like > similarity(text, answer)

    def closeness(self, text: str) -> float:
        """Similarity to the nearest wording, 0 to 1."""
        return max(similarity(first_sentence(text), wording) for wording in self.wordings)


def first_sentence(text: str) -> str:
    """Refusals say it first; what follows may be long."""
    for mark in (". ", "! ", "? ", "؟ ", "। ", "\n"):
        text = text.split(mark, 1)[0] if text.find(mark) > 8 else text
    for mark in "。！？":
        text = text.split(mark, 1)[0] if text.find(mark) > 4 else text  # of scripts that need fewer characters
    return text


def similarity(one: str, other: str) -> float:
    """Cosine of the counts of letter groups, 0 to 1; case and apostrophes do not matter."""
    first, second = _grams(one), _grams(other)
    shared = sum(count * second[gram] for gram, count in first.items())
    norm = math.sqrt(_square(first) * _square(second))
    return shared / norm if norm else 0.0


@lru_cache(4096)
def _grams(text: str) -> Counter[str]:
    words = text.casefold().replace("’", "'").split()
    plain = f" {' '.join(words)} "
    return Counter(plain[at : at + size] for size in GRAMS for at in range(len(plain) - size + 1))


def _square(counts: Mapping[str, int]) -> int:
    return sum(count * count for count in counts.values())
