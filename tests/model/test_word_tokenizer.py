"""The whole-word tokenizer: its vocabulary and its encoding of a text."""

import pytest

from ablate.model.word_tokenizer import SPECIAL, word_tokenizer

TEXTS = ["A fine film, a fine cast.", "a dull film"]


def words_of(vocabulary: int) -> list[str]:
    ids = word_tokenizer(TEXTS, vocabulary, 16).get_vocab()
    return sorted(ids, key=lambda word: ids[word])


def test_the_most_frequent_words_come_first_and_ties_by_spelling() -> None:
    """Counted by hand: a 3, film 2, fine 2, and one each of "," "." cast dull."""
    assert words_of(100) == [*SPECIAL, "a", "film", "fine", ",", ".", "cast", "dull"]
    assert words_of(2) == [*SPECIAL, "a", "film"]


def test_a_text_is_enclosed_in_special_tokens_and_unknown_words_are_marked() -> None:
    tokenizer = word_tokenizer(TEXTS, 3, 16)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("A FINE cast").input_ids)
    assert tokens == ["[CLS]", "a", "fine", "[UNK]", "[SEP]"]
    assert (tokenizer.pad_token_id, tokenizer.model_max_length) == (0, 16)


@pytest.mark.parametrize("order", [TEXTS, TEXTS[::-1]])
def test_the_order_of_the_texts_does_not_matter(order: list[str]) -> None:
    assert word_tokenizer(order, 100, 16).get_vocab() == word_tokenizer(TEXTS, 100, 16).get_vocab()
