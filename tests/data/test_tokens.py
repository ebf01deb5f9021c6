"""Token ids of pairs, labelled words and running text, against transformers and against properties."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from ablate.data.batches import Batches, Examples, collate
from ablate.data.corpus import build_corpus, corpus, pack, unpack
from ablate.data.sources import Data
from ablate.data.texts import Texts
from ablate.data.tokens import blocks, leading_spaces, tokenise
from ablate.distributed.ranks import Ranks
from ablate.model.loading import Tiny
from ablate.model.word_tokenizer import word_tokenizer
from ablate.schema import UNLABELLED
from tests.data.tables import own, save
from tests.data.test_corpus import again

WORDS = ["the house", "a garden, green", "wind's", "stone-wall"]
TINY = Tiny(lr=1e-3)


def wordpieces() -> PreTrainedTokenizerFast:
    """A tokenizer that splits words into pieces, with BERT's special tokens and lower case."""
    tokenizer = word_tokenizer(["a"], 10, 64, segments=True)
    backend = Tokenizer(models.WordPiece({}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    backend.train_from_iterator(WORDS, trainers.WordPieceTrainer(vocab_size=45, special_tokens=special))
    backend.post_processor = tokenizer.backend_tokenizer.post_processor
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=64, model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


def bytelevel() -> PreTrainedTokenizerFast:
    """A tokenizer like GPT-2's: a space is a part of the word that follows it."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet)
    backend.train_from_iterator(["the house the garden the house"] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", pad_token="<end>", model_max_length=64)


PIECES, BYTES, SLOW = wordpieces(), bytelevel(), ByT5Tokenizer()


def words_of(*sentences: list[str]) -> Texts:
    return Texts(list(sentences), [list(range(1, len(words) + 1)) for words in sentences], "")


# --- words ---


def test_words_as_transformers_aligns_them() -> None:
    sentence = ["The", "stone-wall", "wind's", "green"]
    examples = tokenise(words_of(sentence), PIECES, 64, "token_classification")
    encoded = PIECES(sentence, is_split_into_words=True)
    assert examples.input_ids[0].tolist() == encoded["input_ids"]
    seen: set[int] = set()
    expected = []
    for word in encoded.word_ids():
        expected.append(UNLABELLED if word is None or word in seen else word + 1)
        seen.add(word)
    assert examples.label[0].tolist() == expected and examples.units == [4]
    assert sum(value != UNLABELLED for value in expected) < len(expected) - 2  # some word has several tokens


ODD_WORDS = ["a", "stone-wall", "\u200b", "garden", "...", "é", "[UNK]", "x\u200by", "\ufeff"]
TRICKY = st.lists(st.sampled_from(ODD_WORDS), min_size=1, max_size=9)


@pytest.mark.parametrize("tokenizer", [PIECES, BYTES, SLOW], ids=["wordpieces", "bytes", "slow"])
@settings(max_examples=60, deadline=None)
@given(sentences=st.lists(TRICKY, min_size=1, max_size=4), length=st.integers(3, 30))
def test_each_word_that_is_kept_has_its_label_once(tokenizer, sentences, length) -> None:
    texts = words_of(*sentences)
    examples = tokenise(texts, tokenizer, length, "token_classification")
    for row, label, units, given_labels in zip(
        examples.input_ids, examples.label, examples.units, texts.label, strict=True
    ):
        assert len(row) == len(label) <= length
        assert label[label != UNLABELLED].tolist() == given_labels[:units]
        assert units >= 1
    assert examples.truncated == sum(map(len, sentences)) - sum(examples.units)


def test_a_word_that_the_tokenizer_drops_shifts_no_label() -> None:
    examples = tokenise(words_of(["the", "\u200b", "house"]), PIECES, 64, "token_classification")
    assert PIECES("\u200b", add_special_tokens=False)["input_ids"] == []  # else this would test nothing
    assert examples.units == [3]
    place = examples.label[0].tolist().index(2)
    assert examples.input_ids[0][place] == PIECES.unk_token_id
    first = examples.label[0].tolist().index(3)
    assert PIECES.decode(examples.input_ids[0][first:-1]).replace(" ##", "") == "house"


@pytest.mark.parametrize("scheme", ["always", "first", "never"])
def test_words_of_tokenizers_that_mark_spaces(scheme: str) -> None:
    """As Llama's and T5's do: a word alone need not have the mark that it has behind a space."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["<unk>", "</s>"])
    backend.train_from_iterator(["the house the garden the house"] * 5, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")
    words = ["the", "house", "garden", "the"]
    examples = tokenise(words_of(words), tokenizer, 64, "token_classification")
    assert examples.input_ids[0].tolist() == tokenizer(" ".join(words))["input_ids"]
    assert [value for value in examples.label[0] if value != UNLABELLED] == [1, 2, 3, 4]


def test_words_after_a_space_have_the_tokens_of_running_text() -> None:
    words = ["the", "house", "garden"]
    for tokenizer in (PIECES, BYTES):
        examples = tokenise(words_of(words), tokenizer, 64, "token_classification")
        assert examples.input_ids[0].tolist() == tokenizer(" ".join(words))["input_ids"]
    assert leading_spaces(BYTES)(words) == ["the", " house", " garden"]
    assert leading_spaces(PIECES)(words) == words


def test_slow_tokenizers_are_aligned_word_by_word() -> None:
    examples = tokenise(words_of(["ab", "c"]), SLOW, 64, "token_classification")
    assert examples.input_ids[0].tolist() == SLOW("ab c")["input_ids"]  # one token per byte, and one at the end
    assert examples.label[0].tolist() == [1, UNLABELLED, 2, UNLABELLED, UNLABELLED]


def test_words_that_are_cut_off_are_counted() -> None:
    examples = tokenise(words_of(["the"] * 10, ["the"] * 2), BYTES, 4, "token_classification")
    assert (examples.units, examples.truncated) == ([4, 2], 6)


# --- pairs ---


def test_pairs_as_transformers_encodes_them() -> None:
    pairs = [("the house", "green"), ("wind's", "stone-wall garden")]
    examples = tokenise(Texts(pairs, [0, 1], ""), PIECES, 64)
    for (first, second), row, segments in zip(pairs, examples.input_ids, examples.segments, strict=True):
        encoded = PIECES(first, second)
        assert (row.tolist(), segments.tolist()) == (encoded["input_ids"], encoded["token_type_ids"])
        assert row.tolist().count(PIECES.sep_token_id) == 2
    assert tokenise(Texts(["the house"], [0], ""), PIECES, 64).segments == []
    assert tokenise(Texts(pairs, [0, 1], ""), BYTES, 64).segments == []  # its model knows no segments


def test_the_longer_text_of_a_pair_is_cut() -> None:
    examples = tokenise(Texts([("the " * 30, "house"), ("a", "a")], [0, 1], ""), PIECES, 12)
    whole = PIECES("house", add_special_tokens=False)["input_ids"]
    assert len(examples.input_ids[0]) == 12 and examples.input_ids[0][-1 - len(whole) : -1].tolist() == whole
    assert examples.truncated == 1


# --- running text ---


def test_blocks_are_the_texts_one_after_the_other() -> None:
    texts = Texts(["the house", "the garden", "the house the garden"], (), "")
    stream = [token for text in texts.text for token in (*BYTES(text)["input_ids"], BYTES.eos_token_id)]
    examples = blocks(texts, BYTES, 5)
    assert [token for row in examples.input_ids for token in row] == stream[: len(stream) // 5 * 5]
    assert examples.truncated == len(stream) % 5 and examples.units == [4] * len(examples)
    assert blocks(texts, PIECES, 5).input_ids[0][-1] != PIECES.cls_token_id
    with pytest.raises(ValueError, match=r"at least one block, data\.max_length=100"):
        blocks(texts, BYTES, 100)


# --- batches ---

RANDOM = np.random.default_rng(0)
LENGTHS = [5, 2, 9, 9, 3, 1, 7, 4]


def examples_of(kind: str) -> Examples:
    ids = [RANDOM.integers(4, 50, length) for length in LENGTHS]
    if kind == "pairs":
        return Examples(ids, [i % 2 for i in range(8)], 0, segments=[(row > 9).astype(np.int64) for row in ids])
    if kind == "regression":
        return Examples(ids, [i / 4 for i in range(8)], 0)
    if kind == "causal_lm":
        return Examples([RANDOM.integers(4, 50, 6) for _ in range(8)], [], 0, units=[5] * 8)
    labels = [np.where(RANDOM.random(length) < 0.5, 3, UNLABELLED) for length in LENGTHS]
    for label in labels:
        label[0] = 1
    return Examples(ids, labels, 0, units=[int((label != UNLABELLED).sum()) for label in labels])


@pytest.mark.parametrize("kind", ["classification", "pairs", "regression", "token_classification", "causal_lm"])
def test_collated_batches(kind: str) -> None:
    examples = examples_of("pairs" if kind == "classification" else kind)
    batch = collate(examples, [2, 0, 5], pad_id=0, length=10)
    assert batch.input_ids.shape == batch.attention_mask.shape == (3, 10)
    assert batch.to("cpu").share == 1.0 and batch.inputs.keys() - {"token_type_ids"} == {"input_ids", "attention_mask"}
    padding = batch.attention_mask == 0
    if kind in ("classification", "pairs"):
        assert batch.inputs["token_type_ids"][0][: LENGTHS[2]].tolist() == examples.segments[2].tolist()
        assert batch.inputs["token_type_ids"][padding].sum() == 0
    elif kind == "regression":
        assert batch.labels.dtype == torch.float32 and batch.labels.tolist() == [0.5, 0.0, 1.25]
    else:
        assert (
            batch.segments is None and batch.labels.dtype == torch.int64 and (batch.labels[padding] == UNLABELLED).all()
        )
    if kind == "token_classification":
        assert batch.labels[1][: LENGTHS[0]].tolist() == examples.label[0].tolist()
    if kind == "causal_lm":
        assert torch.equal(batch.labels[:, :5], batch.input_ids[:, 1:6]) and (batch.labels[:, 5] == UNLABELLED).all()


@pytest.mark.parametrize("kind", ["pairs", "regression", "token_classification", "causal_lm"])
@pytest.mark.parametrize(("splits", "accumulation", "count"), [(1, 1, 1), (3, 1, 1), (2, 2, 1), (2, 1, 2), (1, 2, 2)])
def test_shares_are_those_of_the_targets_on_all_ranks(kind: str, splits: int, accumulation: int, count: int) -> None:
    examples, size = examples_of(kind), 8 // accumulation
    order = torch.tensor([3, 1, 4, 0, 5, 2, 7, 6])
    ranks = [Ranks(index, count) for index in range(count)]
    pieces = [p for r in ranks for p in Batches(examples, order, size, accumulation, splits, 0, ranks=r)(1)]
    assert sum(piece.share for piece in pieces) == pytest.approx(1, abs=1e-12)
    for piece in pieces:
        targets = (piece.labels != UNLABELLED).sum() if piece.labels.ndim == 2 else len(piece.labels)
        total = sum(examples.units) if kind == "token_classification" else 8
        total = 40 if kind == "causal_lm" else total  # a block's last token has none after it
        assert piece.share == int(targets) / total


def test_the_share_of_classification_is_as_before() -> None:
    """Bit for bit len(piece) / examples per step."""
    examples = Examples([[5]] * 12, [0] * 12, 0)
    for piece in Batches(examples, torch.arange(12), 6, 2, 4, 0)(1):
        assert piece.share == len(piece.labels) / 12


# --- the cache ---


def source_of(kind: str, folder: Path) -> Data:
    texts = [f"the house number {i} is {'green ' * (i % 7)}" for i in range(40)]
    table: dict[str, list] = {
        "text": texts,
        "label": ["yes" if i % 2 else "nö" for i in range(40)],
        "other": texts[::-1],
    }
    if kind == "regression":
        table["label"] = [i / 3 for i in range(40)]
    if kind == "token_classification":
        table["text"] = [text.split() for text in texts]
        table["label"] = [["B-X" if word == "house" else "O" for word in words] for words in table["text"]]
    paths = [save(folder / f"{name}.jsonl", table) for name in ("train", "test")]
    pair = {"text": ["text", "other"]} if kind == "pairs" else {}
    return own(*paths, max_length=14, **pair)


@pytest.mark.parametrize("kind", ["classification", "pairs", "regression", "token_classification", "causal_lm"])
def test_the_cache_keeps_all(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "cache"))
    source, task = source_of(kind, tmp_path), "classification" if kind == "pairs" else kind
    plain = build_corpus(TINY, source, task)
    for found in (corpus(TINY, source, kind=task), unpack(pack(plain)), again(TINY, source, monkeypatch, task)):
        assert (found.labels, found.kind, found.classes) == (plain.labels, task, plain.classes)
        for name in ("train", "validation", "test"):
            mine, theirs = getattr(found, name), getattr(plain, name)
            assert len(mine) == len(theirs) and mine.truncated == theirs.truncated
            for column in ("input_ids", "label", "segments", "units", "cluster"):
                one, other = getattr(mine, column), getattr(theirs, column)
                assert len(one) == len(other) and all(map(np.array_equal, one, other))
            one, other = collate(mine, [1, 0], 0), collate(theirs, [1, 0], 0)
            assert torch.equal(one.labels, other.labels) and one.labels.dtype == other.labels.dtype
    assert plain.labels == {"classification": ("nö", "yes"), "token_classification": ("B-X", "O")}.get(task, ())
    assert bool(len(plain.train.segments)) == (kind == "pairs")


def test_the_kind_of_task_is_in_the_key(tmp_path: Path) -> None:
    from ablate.data.token_cache import entry_key

    source = source_of("classification", tmp_path)
    assert entry_key(TINY, source) == entry_key(TINY, source, "classification") != entry_key(TINY, source, "causal_lm")
