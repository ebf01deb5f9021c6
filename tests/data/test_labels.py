"""Labels of each kind of task, from every format that has them: words, numbers, targets and lists of word labels."""

from collections import Counter
from pathlib import Path

import datasets
import pytest

from ablate.data.corpus import Corpus, build_corpus, corpus, look_alikes, warn_about_texts
from ablate.data.row_checks import BrokenRule, Classes, target
from ablate.data.sources import CUT, Synthetic, load_splits
from ablate.data.texts import Texts, stratified_order
from ablate.model.loading import Tiny
from tests.data.tables import SIZES, own, pairs_of, refusal_of, save

TEXTS = [f"text number {i}" for i in range(40)]
WORDS = [("sports", "politics", "art")[i % 3] for i in range(40)]
FORMATS = ["csv", "tsv", "jsonl", "json", "parquet"]


@pytest.fixture(autouse=True)
def _no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "cache"))


# --- classes ---


@pytest.mark.parametrize("suffix", FORMATS)
def test_words_become_numbers_in_sorted_order(tmp_path, suffix):
    train, test = (save(tmp_path / f"{s}.{suffix}", {"text": TEXTS, "label": WORDS}) for s in ("train", "test"))
    splits = load_splits(own(train, test))
    assert all(texts.labels == ("art", "politics", "sports") for texts in splits.values())
    assert splits["test"].label == [{"art": 0, "politics": 1, "sports": 2}[word] for word in WORDS]


@pytest.mark.parametrize("suffix", FORMATS)
def test_numbers_stay_and_are_their_own_names(tmp_path, suffix):
    train = save(tmp_path / f"train.{suffix}", {"text": TEXTS, "label": [i % 2 for i in range(40)]})
    splits = load_splits(own(train, train))
    assert splits["test"].labels == ("0", "1") and splits["test"].label[:3] == [0, 1, 0]


def test_the_order_of_the_split_does_not_depend_on_how_classes_are_written(tmp_path):
    """Words that sort like the numbers give the same splits."""
    numbers = save(tmp_path / "a.csv", {"text": TEXTS, "label": [i % 3 for i in range(40)]})
    words = save(tmp_path / "b.csv", {"text": TEXTS, "label": ["abc"[i % 3] for i in range(40)]})
    for one, other in zip(load_splits(own(numbers)).values(), load_splits(own(words)).values(), strict=True):
        assert pairs_of(one) == pairs_of(other)


@pytest.mark.parametrize("suffix", FORMATS)
def test_booleans_are_the_words_false_and_true(tmp_path, suffix):
    train = save(tmp_path / f"a.{suffix}", {"text": TEXTS, "label": [i % 2 == 0 for i in range(40)]})
    splits = load_splits(own(train, train))
    assert splits["test"].labels == ("False", "True") and splits["test"].label[:3] == [1, 0, 1]


def test_surplus_spaces_of_words_are_removed(tmp_path):
    path = tmp_path / "a.csv"
    words = ["no", " no", "oh  yes ", "oh yes"]
    path.write_text("text,label\n" + "".join(f"t{i},{words[i % 4]}\n" for i in range(30)))
    assert load_splits(own(path, path))["test"].labels == ("no", "oh yes")


@pytest.mark.parametrize("how", ["parquet", "saved"])
def test_names_that_datasets_recorded_are_kept(tmp_path, how):
    """A ClassLabel's numbers keep their order, which need not be that of the sorted names."""
    table = datasets.Dataset.from_dict({"text": TEXTS, "label": [i % 2 for i in range(40)]})
    table = table.cast_column("label", datasets.ClassLabel(names=["unrelated", "equal"]))
    path = tmp_path / "a.parquet" if how == "parquet" else tmp_path / "folder"
    table.to_parquet(path) if how == "parquet" else table.save_to_disk(path)
    splits = load_splits(own(path, path))
    assert splits["test"].labels == ("unrelated", "equal") and splits["test"].label == table["label"]
    other = tmp_path / "b.parquet"
    table.cast_column("label", datasets.ClassLabel(names=["equal", "unrelated"])).to_parquet(other)
    assert "the classes must be those of the training split, unrelated, equal (got equal, unrelated)" in refusal_of(
        own(path, other)
    )


@pytest.mark.parametrize("quote", [False, True])
def test_tsv_with_words_for_labels_keeps_plain_quotes(tmp_path, quote):
    """As in GLUE: labels are words, and quotes are characters of a text."""
    said = ['"No", he said', 'fine "', '"open', "plain"] if quote else ["a", "b", "c", "d"]
    rows = [(f"{said[i % 4]} {i}", ("entailment", "not_entailment")[i % 2]) for i in range(24)]
    path = tmp_path / "train.tsv"
    path.write_text("index\ttext\tlabel\n" + "".join(f"{i}\t{t}\t{y}\n" for i, (t, y) in enumerate(rows)))
    splits = load_splits(own(path, path))
    assert splits["test"].text == [text for text, _ in rows]


def test_a_quote_that_merges_rows_with_words_for_labels_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"dull,no\ngood,yes\nsaid no",no\nbad,no\nfine,yes\n')
    assert "line 2: a quote must not merge rows" in refusal_of(own(path))
    path.write_text('text,label\n"dull, very\ngood, too\nsaid no",no\nbad,no\nfine,yes\nfine b,yes\nfine c,no\n')
    assert own(path).read()["train"].text[0] == "dull, very\ngood, too\nsaid no"  # the control: these are no labels


def test_labels_of_one_kind() -> None:
    classes = Classes()
    assert [classes(value) for value in (" a", "b", True)] == ["a", "b", "True"]
    for value in (1, "2", 0.5, None, "", "nan"):
        with pytest.raises(BrokenRule, match="a word like those before it"):
            classes(value)


# --- imbalance ---


def corpus_of(train: Path, test: Path) -> Corpus:
    return corpus(Tiny(lr=1e-3), own(train, test))


def test_unequal_classes_are_reported(tmp_path, caplog):
    unequal = ["rare" if i < 8 else "common" for i in range(40)]
    test = save(tmp_path / "b.csv", {"text": [f"new {t}" for t in TEXTS], "label": unequal})
    found = corpus_of(save(tmp_path / "a.csv", {"text": TEXTS, "label": unequal}), test)
    assert found.labels == ("common", "rare") and found.classes == 2
    shares = Counter(found.train.label)
    share = 100 * shares[0] / shares.total()
    assert f"{share:.1f} % of the training labels are common and {100 - share:.1f} % are rare" in caplog.text
    caplog.clear()
    equal = ["ab"[i % 2] for i in range(40)]
    test = save(tmp_path / "b.csv", {"text": [f"new {t}" for t in TEXTS], "label": equal})
    corpus_of(save(tmp_path / "a.csv", {"text": TEXTS, "label": equal}), test)
    assert "unequal" not in caplog.text  # the control


def test_a_class_with_one_example(tmp_path, caplog):
    rare = ["once" if i == 7 else "ab"[i % 2] for i in range(40)]
    test = save(tmp_path / "b.csv", {"text": ["x", "y"], "label": ["a", "b"]})
    corpus_of(save(tmp_path / "a.csv", {"text": TEXTS, "label": rare}), test)
    assert "the train split has only one example of class once" in caplog.text
    assert "the test split has no example of class once" in caplog.text


def test_names_that_look_alike(tmp_path, caplog):
    assert look_alikes(["a b", "ab", "c"]) == [["a b", "ab"]]
    alike = ["Yes" if i == 3 else ("yes", "no")[i % 2] for i in range(40)]
    test = save(tmp_path / "b.csv", {"text": ["x", "y"], "label": ["yes", "no"]})
    corpus_of(save(tmp_path / "a.csv", {"text": TEXTS, "label": alike}), test)
    assert "the classes 'Yes' and 'yes' differ only in case or spaces" in caplog.text


# --- targets ---


@pytest.mark.parametrize("suffix", FORMATS)
def test_targets_are_numbers(tmp_path, suffix):
    values = [0.5 * i - 3 for i in range(40)]
    path = save(tmp_path / f"a.{suffix}", {"text": TEXTS, "label": values})
    splits = load_splits(own(path, path), "regression")
    assert splits["test"].label == values and splits["test"].labels == ()
    assert [len(splits[split].text) for split in ("train", "validation")] == [36, 4]


def test_digits_are_targets() -> None:
    assert [target(value) for value in ("3", " -2.5e-1 ", ".5", "1.", 4, 0.25)] == [3.0, -0.25, 0.5, 1.0, 4.0, 0.25]
    for value in (
        "nan",
        "inf",
        "-Infinity",
        "",
        "1_000",
        "0x1",
        "3,5",
        "1e999",
        float("nan"),
        1e31,
        10**400,
        None,
        True,
    ):
        with pytest.raises(BrokenRule, match="the target must be a finite number"):
            target(value)
    with pytest.raises(BrokenRule, match="decimals follow a point"):
        target("3,5")


def test_splits_for_regression_are_cut_in_the_order_of_hashes() -> None:
    """No target is a class: the order is that of the texts' hashes alone."""
    values = [float(i % 4) for i in range(40)]
    order = stratified_order(Texts(TEXTS, values, ""), "test")
    assert order == stratified_order(Texts(TEXTS, [0] * 40, ""), "test")
    assert order != stratified_order(Texts(TEXTS, [i % 4 for i in range(40)], ""), "test")  # the control


def test_a_small_file_has_two_targets_per_split(tmp_path):
    path = save(tmp_path / "a.csv", {"text": TEXTS[:8], "label": [float(i) for i in range(8)]})
    assert [len(texts.text) for texts in load_splits(own(path), "regression").values()] == [4, 2, 2]


# --- other tasks ---


def test_language_models_need_no_labels(tmp_path):
    path = save(tmp_path / "a.csv", {"text": TEXTS})
    splits = load_splits(own(path, label=None), "causal_lm")
    assert all(not len(texts.label) for texts in splits.values())
    for texts in splits.values():  # blocks are made of texts that follow each other
        assert [TEXTS.index(text) for text in texts.text] == sorted(TEXTS.index(text) for text in texts.text)
    sampled = load_splits(own(path, label=None, train_examples=20), "causal_lm")["train"].text
    assert len(sampled) == 20 and sampled == [text for text in TEXTS if text in sampled]
    labelled = save(tmp_path / "b.csv", {"text": TEXTS, "label": WORDS})
    assert load_splits(own(labelled), "causal_lm")["train"].text == splits["train"].text  # the column is not read


def test_running_text_has_one_text_per_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("One line.\n\n= Title =\r\n" * 10)
    assert own(path, label=None).read("causal_lm")["train"].text[:3] == ["One line.", "= Title =", "One line."]


def test_pairs_keep_their_texts_and_are_chosen_by_both(tmp_path):
    table = {"premise": ["same"] * 40, "hypothesis": TEXTS, "label": WORDS}
    path = save(tmp_path / "a.csv", table)
    splits = load_splits(own(path, text=["premise", "hypothesis"]))
    rows = [row for texts in splits.values() for row in texts.text]
    assert sorted(rows) == sorted(("same", text) for text in TEXTS)
    first, second, both = (
        stratified_order(Texts(rows, [0] * 40, ""), "test")
        for rows in ([("same", text) for text in TEXTS], [(text, "same") for text in TEXTS], TEXTS)
    )
    assert first != second != both != first


def test_a_data_set_without_labels_for_a_task_is_refused() -> None:
    source = Synthetic(**SIZES, seed=0)
    assert (
        "data must be a data set with labels for task=regression (got Synthetic, for classification or"
        in refusal_of(source, "regression")
    )
    assert load_splits(source, "causal_lm")["train"].label == ()


def test_a_class_of_the_users_own_may_read_without_a_kind() -> None:
    class Mine(Synthetic):
        kinds = ("classification",)

        def read(self):
            rows = {"train": 12, "validation": 4, "test": 4}
            return {
                s: Texts([f"{s} {i}" for i in range(n)], ["yn"[i % 2] for i in range(n)], s) for s, n in rows.items()
            }

    assert load_splits(Mine(**SIZES, seed=0))["test"].labels == ("n", "y")
    assert build_corpus(Tiny(lr=1e-3), Mine(**SIZES, seed=0)).labels == ("n", "y")


def test_limits_of_cut_splits_do_not_depend_on_the_task(tmp_path):
    path = save(
        tmp_path / "a.parquet", {"text": [f"text {i}" for i in range(6000)], "label": [i / 7 for i in range(6000)]}
    )
    splits = load_splits(own(path), "regression")
    assert [len(splits[split].text) for split in CUT] == [600, 500]


def test_warnings_have_the_words_of_the_task(tmp_path, caplog):
    words = [["word"] * 30 if i % 2 else ["a", "b"] for i in range(20)]
    labels = [["X" if j % 2 else "O" for j in range(len(each))] for each in words]
    path = save(tmp_path / "a.jsonl", {"text": words, "label": labels})
    source = own(path, path)
    warn_about_texts(build_corpus(Tiny(lr=1e-3), source, "token_classification"), source)
    assert "160 of 320 test words are behind the first data.max_length=16 tokens of their text" in caplog.text
    caplog.clear()
    lines = save(tmp_path / "b.csv", {"text": TEXTS})
    source = own(lines, lines, label=None, max_length=13)
    warn_about_texts(build_corpus(Tiny(lr=1e-3), source, "causal_lm"), source)
    assert "the last 4 of 160 test tokens are no whole block and were left out" in caplog.text
    assert "data: 36 test texts are also in the training split" in caplog.text
