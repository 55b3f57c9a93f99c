"""Streamed text equals decoded text, and stop strings are found wherever tokens split them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from deltaserve.server.decoding.output.text import ByteDetokenizer, IncrementalDetokenizer, StopStrings


@pytest.fixture(scope="module")
def tokenizer():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(["hello world, hello café"], trainer)
    return made


@given(text=st.text(max_size=30), context=st.text(max_size=5))
def test_streamed_text_is_the_decoded_text(tokenizer, text, context):
    ids = tokenizer.encode(text).ids
    detokenizer = IncrementalDetokenizer(tokenizer, tokenizer.encode(context).ids)
    assert "".join(map(detokenizer.step, ids)) + detokenizer.flush() == text


def test_half_a_character_is_held_back_and_shown_as_a_replacement_at_the_end(tokenizer):
    ids = tokenizer.encode("a🦙").ids
    detokenizer = IncrementalDetokenizer(tokenizer)
    assert [detokenizer.step(i) for i in ids[:-1]] == ["a", "", "", ""]
    assert set(detokenizer.flush()) == {"\ufffd"}


@pytest.mark.parametrize("held", [1, 2, 3])
@pytest.mark.parametrize("before", ["", "a", "some longer text "])
def test_a_character_that_begins_in_the_prompt_is_shown_whole(tokenizer, held, before):
    ids = tokenizer.encode(f"{before}🦙").ids
    detokenizer = IncrementalDetokenizer(tokenizer, ids[:-held])
    said = "".join(map(detokenizer.step, [*ids[-held:], *tokenizer.encode("xy").ids])) + detokenizer.flush()
    assert said == "🦙xy"


def test_a_window_that_would_begin_inside_a_character_begins_before_it(tokenizer):
    ids = tokenizer.encode("🦙🦙🦙").ids
    for cut in range(len(ids)):
        detokenizer = IncrementalDetokenizer(tokenizer, ids[:cut])
        said = "".join(map(detokenizer.step, ids[cut:])) + detokenizer.flush()
        assert said == "🦙" * (3 - cut // 4)
        assert not detokenizer.incomplete


@given(raw=st.lists(st.binary(max_size=4), max_size=9), cut=st.integers(0, 9))
def test_bytes_of_an_answer_are_decoded_behind_those_of_the_prompt(raw, cut):
    detokenizer = ByteDetokenizer(raw.__getitem__, range(min(cut, len(raw))))
    said = "".join(map(detokenizer.step, range(cut, len(raw)))) + detokenizer.flush()
    before, answer = b"".join(raw[:cut]), b"".join(raw[cut:])
    whole = (before + answer).decode(errors="replace")
    assert whole.endswith(said) or said == answer.decode(errors="replace")
    assert len(said) <= len(answer.decode(errors="replace"))
    if cut == 0:
        assert said == whole


def test_bytes_that_never_become_a_character_do_not_pile_up(tokenizer):
    lone = tokenizer.encode("🦙").ids[-1]
    detokenizer = IncrementalDetokenizer(tokenizer)
    shown = [detokenizer.step(lone) for _ in range(500)]
    assert "".join(shown) + detokenizer.flush() == "\ufffd" * 500
    assert max(map(len, shown)) < 50


def test_special_tokens_have_no_text(tokenizer):
    detokenizer = IncrementalDetokenizer(tokenizer)
    end = tokenizer.token_to_id("<|end|>")
    assert detokenizer.step(end) + detokenizer.flush() == ""


@given(st.text("ab.", max_size=20), st.lists(st.text("ab.", min_size=1, max_size=4), max_size=3), st.data())
def test_stop_strings_cut_at_the_earliest_match_for_any_chunking(text, stops, data):
    found, stop_strings, rest = [], StopStrings(stops), text
    while rest and stop_strings.matched is None:
        size = data.draw(st.integers(1, len(rest)))
        found.append(stop_strings.push(rest[:size]))
        rest = rest[size:]
    if stop_strings.matched is None:
        found.append(stop_strings.flush())
        assert not any(stop in text for stop in stops)
        assert "".join(found) == text
    else:
        ends = {text.find(stop) + len(stop) for stop in stops if stop in text}
        shown = "".join(found)
        assert text.startswith(shown + stop_strings.matched)
        assert not any(stop in shown for stop in stops)
        assert len(shown) + len(stop_strings.matched) >= min(ends)


def test_nothing_is_shown_after_a_match():
    stops = StopStrings(["END"])
    assert stops.push("abcEN") == "abc"
    assert stops.push("D more") == ""
    assert stops.push("x") == "" and stops.matched == "END"


def first_stop(tokens, stops, min_tokens):
    """(where it begins, the stop string) that ends the answer, by looking at all of the text; None where none does."""
    text = ""
    for number, token in enumerate(tokens, start=1):
        known, text = len(text), text + token
        found = [
            (at, stop)
            for stop in stops
            for at in range(len(text) - len(stop) + 1)
            if text.startswith(stop, at) and at + len(stop) > known
        ]
        if number > min_tokens and found:
            return min(found, key=lambda hit: (hit[0], -len(hit[1])))
    return None


@given(
    st.lists(st.text("ab.", max_size=3), max_size=12),
    st.lists(st.text("ab.", min_size=1, max_size=4), max_size=3),
    st.integers(0, 8),
)
def test_a_stop_string_ends_the_answer_only_if_its_last_character_comes_after_min_tokens(tokens, stops, min_tokens):
    found, stop_strings = [], StopStrings(stops)
    for number, token in enumerate(tokens, start=1):
        found.append(stop_strings.push(token, early=number <= min_tokens))
        if stop_strings.matched is not None:
            break
    else:
        found.append(stop_strings.flush())
    expected = first_stop(tokens, stops, min_tokens)
    shown = "".join(found)
    if expected is None:
        assert (shown, stop_strings.matched) == ("".join(tokens), None)
    else:
        assert (len(shown), stop_strings.matched) == expected
        assert "".join(tokens).startswith(shown)


@pytest.mark.parametrize(
    ("stops", "tokens", "min_tokens", "shown", "matched"),
    [
        (["def"], "abcdef", 5, "abc", "def"),  # begins early, is complete afterwards
        (["def"], "abcdefgh", 6, "abcdefgh", None),  # complete with the last token that must come
        (["aa"], "aaa", 2, "a", "aa"),  # one that is passed over does not hide the one that overlaps it
        (["abc", "bcd"], "abcd", 3, "a", "bcd"),
        (["ab", "abcd"], "abcd", 2, "", "abcd"),
        (["ab", "abcd"], "abab", 2, "ab", "ab"),
    ],
)
def test_a_stop_string_counts_only_if_it_is_complete_after_min_tokens(stops, tokens, min_tokens, shown, matched):
    stop_strings = StopStrings(stops)
    said = [stop_strings.push(letter, early=number <= min_tokens) for number, letter in enumerate(tokens, start=1)]
    assert ("".join(said) + stop_strings.flush(), stop_strings.matched) == (shown, matched)


def test_early_text_is_held_back_no_longer_than_it_may_begin_a_stop_string():
    stops = StopStrings(["ab", "xyzw"])
    assert stops.push("cab", early=True) == "cab"
    assert stops.push("xy", early=True) == ""
    assert stops.push("-") == "xy-"
