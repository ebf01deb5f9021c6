"""Models, data and settings that do not fit each other end a command with code 2 before its first run."""

import json
from pathlib import Path

import pytest
from transformers import RobertaConfig, RobertaModel

from ablate.data import corpus as corpora
from ablate.experiment import build_options
from ablate.model.word_tokenizer import word_tokenizer
from ablate.sweep.model_check import check_arm, position_limit, structure
from tests.faults.models import save_model
from tests.tools import ablate, compose_settings

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SMALL = ("data=synthetic", "data.train_examples=8", "data.test_examples=4", "trainer.steps=2", "trainer.batch_size=4",
         "trainer.length_splits=2", "trainer.threads=1", "report=false")  # fmt: skip


def checked(*arguments: str) -> None:
    """Perform the checks of an arm in this process."""
    options = build_options(compose_settings(*SMALL, *arguments))
    texts = corpora.corpus(options.model, options.data, kind=options.task.kind)
    check_arm(options, texts, structure(options.model, texts, options.task))


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A BERT with 128 positions whose tokenizer does not know that."""
    save_model(tmp_path / "bert")
    word_tokenizer(["a fine film", "a dull film"], 60, int(1e30)).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def test_longer_than_positions(bert: Path) -> None:
    checked(f"model.path={bert}", "data.max_length=128")
    with pytest.raises(ValueError, match=r"data\.max_length must be at most 128"):
        checked(f"model.path={bert}", "data.max_length=129")


def test_roberta_reserves_positions(tmp_path: Path) -> None:
    RobertaModel(RobertaConfig(vocab_size=64, max_position_embeddings=66, **SIZES)).save_pretrained(tmp_path)
    word_tokenizer(["a fine film"], 60, int(1e30)).save_pretrained(tmp_path)
    checked(f"model.path={tmp_path}", "data.max_length=64")
    with pytest.raises(ValueError, match=r"data\.max_length must be at most 64"):
        checked(f"model.path={tmp_path}", "data.max_length=65")


@pytest.mark.parametrize(("architecture", "limit"), [("llama", 96), ("gpt2", 96), ("deberta-v2", None)])
def test_positions_of_other_families(architecture: str, limit: int | None) -> None:
    settings = {"llama": SIZES, "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2}}.get(architecture, SIZES)
    from transformers import AutoConfig, AutoModelForSequenceClassification

    more = {"relative_attention": True, "position_biased_input": False} if limit is None else {}
    config = AutoConfig.for_model(architecture, vocab_size=64, max_position_embeddings=96, **settings, **more)
    assert position_limit(AutoModelForSequenceClassification.from_config(config)) == limit


def test_tokens_beyond_the_embeddings(bert: Path) -> None:
    tokenizer = word_tokenizer(["a fine film"], 60, 128)
    tokenizer.add_tokens([f"word{i}" for i in range(70)] + ["the"])
    tokenizer.save_pretrained(bert)
    with pytest.raises(ValueError, match=r"a row for each token of its tokenizer .got 64 rows, and token 77 of 78"):
        checked(f"model.path={bert}")


@pytest.mark.parametrize("key", ["mlp", "classifier"])
def test_a_tracked_name_is_that_of_a_parameter(key: str) -> None:
    right = "bert.encoder.layer.0.output.dense.weight"
    checked("model=tiny", f"trainer.track.{key}={right}")
    with pytest.raises(ValueError, match=rf"trainer.track.{key} must be .*weigth\); did you mean {right}"):
        checked("model=tiny", f"trainer.track.{key}={right[:-2]}th")


def test_labels_without_entities_have_no_entity_f1(tmp_path: Path) -> None:
    """The default primary metric of words would have no value, and its claims nothing to judge."""

    def sentences(*labels: str) -> tuple[str, ...]:
        file = tmp_path / f"{labels[0]}.conll"
        file.write_text("".join(f"the {labels[0]}\nfilm {labels[1]}\nends{i} {labels[2]}\n\n" for i in range(60)))
        return ("model=tiny", "task=token_classification", f"data.files.train={file}", "data.files.test=null")

    def check(*arguments: str) -> None:
        checked("data=files", *arguments)

    check(*sentences("O", "B-LOC", "I-LOC"))
    check(*sentences("DET", "NOUN", "VERB"), "task.primary=accuracy")
    what = (r"task.primary must be a metric that these labels have \(accuracy, .*matthews, ece\) \(got entity_f1\): "
            "no label names an entity, as B-LOC does; the labels are DET, NOUN, VERB")  # fmt: skip
    with pytest.raises(ValueError, match=what):
        check(*sentences("DET", "NOUN", "VERB"))


def test_the_command_checks_before_the_first_run(bert: Path, tmp_path: Path) -> None:
    """Each arm is checked, and a damaged file is found in a plan, too."""
    command = (*SMALL, f"model.path={bert}", "report=false")
    done = ablate("-m", *command, "data.max_length=128,129", cwd=tmp_path)
    assert done.returncode == 2 and "at most 128" in done.stdout + done.stderr
    assert not (tmp_path / "outputs").exists()
    done = ablate(*command, "trainer.track.mlp=bert.pooler.dense.wieght", cwd=tmp_path)
    assert done.returncode == 2 and "did you mean bert.pooler.dense.weight" in done.stdout + done.stderr
    weights = bert / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:3000])
    for more in ("plan=true", "plan=false"):
        done = ablate("-m", *command, "seed=0,1", more, cwd=tmp_path)
        assert done.returncode == 2 and "bert/model.safetensors must be a whole" in done.stdout + done.stderr
    assert not (tmp_path / "outputs").exists()


def test_a_slow_tokenizer_works_and_counts_what_it_cuts(tmp_path: Path) -> None:
    """PhoBERT's tokenizer exists in Python only."""
    words = ["the", "film", "is", "a", "was", "and", "plot"]
    (tmp_path / "vocab.txt").write_text("".join(f"{word} 1\n" for word in words))
    (tmp_path / "bpe.codes").write_text("#version: 0.2\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PhobertTokenizer"}))
    RobertaModel(RobertaConfig(vocab_size=64, max_position_embeddings=80, **SIZES)).save_pretrained(tmp_path)
    options = build_options(compose_settings(*SMALL, f"model.path={tmp_path}", "data.max_length=5"))
    texts = corpora.build_corpus(options.model, options.data)
    assert not options.model.tokenizer([]).is_fast
    assert texts.train.truncated == 8 and {len(ids) for ids in texts.train.input_ids} == {5}
    longest = build_options(compose_settings(*SMALL, f"model.path={tmp_path}", "data.max_length=78"))
    assert corpora.build_corpus(longest.model, longest.data).train.truncated == 0
    checked(f"model.path={tmp_path}", "data.max_length=78")
