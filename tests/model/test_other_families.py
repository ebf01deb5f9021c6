"""Model families that no file of conf/roles describes: what trains, what is refused, and a file of the user's own."""

import logging
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from ablate.config.paths import conf
from ablate.data.corpus import corpus
from ablate.experiment import build_options, run_id
from ablate.model import parameter_roles
from ablate.model.loading import Pretrained, Random, Tiny
from ablate.model.parameter_roles import HEADS, family_of, own_roles, role
from ablate.model.word_tokenizer import word_tokenizer
from ablate.schema import OTHER
from ablate.sweep import model_check, technique_check
from tests.model.test_families import WORDS
from tests.tools import ablate, compose_settings, run_settings

SMALL = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48}
OTHERS: dict[str, dict[str, Any]] = {
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 48},
    "mpnet": SMALL,
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2},
    "opt": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 48,
            "word_embed_proj_dim": 32, "max_position_embeddings": 64},
    "gpt_neox": SMALL,
}  # fmt: skip
STEPS = 5
XLNET = """
model_types: [xlnet]
blocks:
  transformer.word_embedding|mask_emb.*: embedding
  transformer.mask_emb: embedding
  transformer.layer.#.rel_attn.*: attention
  transformer.layer.#.ff.*: mlp
mlp_output: transformer.layer.#.ff.layer_2.weight
classifier: logits_proj.weight
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: save(tmp_path_factory.mktemp("others") / family, family) for family in OTHERS}


def save(folder: Path, family: str, kind: type = AutoModelForSequenceClassification) -> Path:
    tokenizer = word_tokenizer(WORDS, 100, 64)
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer), pad_token_id=0, bos_token_id=2, eos_token_id=3,
                                  **OTHERS[family])  # fmt: skip
    torch.manual_seed(0)
    kind.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def settings_of(folder: Path, *more: str) -> dict[str, Any]:
    return compose_settings(
        "model=minilm", f"model.path={folder}", "data=synthetic", "data.train_examples=40", "data.test_examples=20",
        f"trainer.steps={STEPS}", "trainer.batch_size=8", "trainer.threads=1", "trainer.track.layers_every=1",
        "optimizer.lr=0.01", "trainer.keep_checkpoint=true", *more,
    )  # fmt: skip


@pytest.mark.parametrize("family", OTHERS)
def test_trains_without_roles(family: str, folders: dict[str, Path], tmp_path: Path) -> None:
    record = run_settings(settings_of(folders[family], "freeze=none"), tmp_path)
    steps, layers = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("steps", "layers"))
    assert record["status"] == "done" and steps.num_rows == STEPS
    assert steps["mlp_grad_norm"].null_count == STEPS
    blocks = record["parameters"]["by_block"]
    assert blocks[OTHER]["total"] > 0 and blocks["head"]["total"] > 0
    assert set(layers["block"].to_pylist()) == set(blocks)
    squares = [row["grad_norm"] ** 2 for row in layers.to_pylist() if row["step"] == 1]
    assert sum(squares) ** 0.5 == pytest.approx(steps["grad_norm"][0].as_py(), rel=1e-9)


@pytest.mark.parametrize("family", ["xlnet", "opt"])
def test_the_head_alone_trains(family: str, folders: dict[str, Path], tmp_path: Path) -> None:
    record = run_settings(settings_of(folders[family], "freeze=head_only"), tmp_path)
    trained = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["trained"]
    model = AutoModelForSequenceClassification.from_pretrained(folders[family])
    base = {f"{model.base_model_prefix}.{name}" for name, _ in model.base_model.named_parameters()}
    assert trained.keys() == {name for name, _ in model.named_parameters()} - base
    assert record["parameters"]["by_block"][OTHER]["trained"] == 0


@pytest.mark.parametrize("option", ["embeddings_attention", "first_n", "last_n", "bitfit", "layernorm"])
def test_an_option_that_needs_roles_is_refused(option: str, folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^freeze must be an option that needs no roles.*\(got ablate\.freeze\.\S+\)"
                                         r": \d+ parameters of the family xlnet .* such as transformer\.mask_emb\. "
                                         r"Describe the family in conf/roles/xlnet\.yaml"):  # fmt: skip
        run_settings(settings_of(folders["xlnet"], f"freeze={option}"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_layer_wise_rates_are_refused_and_a_rate_of_the_head_is_not(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^optimizer must be an option that needs no roles"):
        run_settings(settings_of(folders["opt"], "freeze=none", "optimizer.layer_decay=0.9"), tmp_path)
    run_settings(settings_of(folders["opt"], "freeze=none", "optimizer.head_lr=0.02"), tmp_path)
    rates = {row["place"]: row["value"] for row in pq.read_table(tmp_path / "measures.parquet").to_pylist()
             if row["name"] == "lr" and row["step"] == STEPS}  # fmt: skip
    assert rates["head"] == 2 * rates[OTHER]


def test_preflight_refuses_and_warns(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    technique_check.warn_once.cache_clear()
    arms = [build_options(settings_of(folders["mpnet"], f"freeze={option}", f"seed={seed}"))
            for option, seed in (("none", 0), ("none", 1), ("embeddings_attention", 0))]  # fmt: skip
    texts = corpus(arms[0].model, arms[0].data, {})
    model = model_check.structure(arms[0].model, texts, arms[0].task)
    monkeypatch.setattr(technique_check.log, "propagate", True)
    with caplog.at_level(logging.WARNING):
        for arm in arms[:2]:
            model_check.check_arm(arm, texts, model)
    found = [record.getMessage() for record in caplog.records if "null in the records" in record.getMessage()]
    assert len(found) == 1 and found[0].startswith("G_MLP") and "trainer.track.mlp=<parameter name>" in found[0]
    with pytest.raises(ValueError, match=r"conf/roles/mpnet\.yaml"):
        model_check.check_arm(arms[2], texts, model)


@pytest.fixture
def described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with a file of roles."""
    (tmp_path / "conf/roles").mkdir(parents=True)
    (tmp_path / "conf/roles/xlnet.yaml").write_text(XLNET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_of_roles_adds_a_family(described: Path, folders: dict[str, Path]) -> None:
    record = run_settings(settings_of(folders["xlnet"]), described / "run")
    blocks = record["parameters"]["by_block"]
    assert set(blocks) == {"embedding", "attention", "mlp", "head"}
    assert all(
        n["trained"] == (0 if block in ("embedding", "attention") else n["total"]) for block, n in blocks.items()
    )
    steps = pq.read_table(described / "run/steps.parquet")
    assert steps["mlp_grad_norm"].null_count == steps["classifier_grad_norm"].null_count == 0
    layers = pq.read_table(described / "run/layers.parquet").to_pylist()
    assert {(row["layer"], row["block"]) for row in layers} == {(0, "mlp"), (1, "mlp"), (None, "head")}


def test_the_command_reads_a_file_of_roles(described: Path, folders: dict[str, Path]) -> None:
    settings = ("model=minilm", f"model.path={folders['xlnet']}", "data=synthetic", "data.train_examples=40",
                "data.test_examples=20", "trainer.steps=2", "trainer.batch_size=8", "trainer.threads=1")  # fmt: skip
    assert ablate(*settings, cwd=described).returncode == 0
    (described / "conf/roles/xlnet.yaml").unlink()
    refused = ablate(*settings, "study=refused", cwd=described)
    assert refused.returncode == 2 and "conf/roles/xlnet.yaml" in refused.stderr
    assert not (described / "outputs/refused").exists()


def test_own_roles_count_in_the_id_where_they_can_matter(described: Path, folders: dict[str, Path]) -> None:
    file = Path("conf/roles/xlnet.yaml")
    known = [Tiny(lr=1.0), Random("llama", {"vocab_size": 100}, lr=1.0), Pretrained("asset:minilm", None, lr=1.0)]
    unknown = [
        Pretrained(str(folders["xlnet"]), None, lr=1.0),
        Pretrained("owner/name", "v1", lr=1.0),
        Random("xlnet", {"vocab_size": 100}, lr=1.0),
    ]
    with_file = [model.identity().get("roles") for model in (*known, *unknown)]
    assert with_file[:3] == [None] * 3 and None not in with_file[3:]
    assert own_roles("bert") == {} != own_roles(None)
    choices = {group: "none" for group in ("freeze", "clip", "scheduler", "optimizer", "model", "data", "trainer")}
    ids = [run_id(settings_of(folders["xlnet"]), choices)]
    file.write_text(XLNET + "# another comment\n")
    ids.append(run_id(settings_of(folders["xlnet"]), choices))
    file.unlink()
    ids.append(run_id(settings_of(folders["xlnet"]), choices))
    assert len(set(ids)) == 3
    assert not any("roles" in model.identity() for model in (*known, *unknown))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("blocks: {classifier.*: mlp}", "the role of classifier.weight must be the same in all files of roles"),
        ("blocks: {a.*: heads}", r"xlnet.yaml: blocks: a\.\* must be one of embedding, .* \(got heads\)"),
        ("blocks: {a.*: other}", r"must be one of"),
        ("blocks: {a..b: mlp}", "blocks must be a path"),
        ("blocks: []", "blocks must be a mapping"),
        ("layers: {}", "the file must be a mapping with blocks"),
        ("model_types: xlnet\nblocks: {a.*: mlp}", "model_types must be a list"),
        ("mlp_output: 3\nblocks: {a.*: mlp}", "mlp_output must be a path"),
        ("[", "must be a file of YAML"),
        ("!!python/object/apply:os.getcwd []", "must be a file of YAML"),
    ],
)
def test_a_wrong_file_of_roles_is_refused(described: Path, content: str, message: str) -> None:
    (described / "conf/roles/xlnet.yaml").write_text(content)
    parameter_roles._model_families.cache_clear()
    parameter_roles._role.cache_clear()
    with pytest.raises(ValueError, match=message):
        role("classifier.weight")


def test_a_missing_head_of_unknown_name_is_refused_with_the_remedy(folders: dict[str, Path]) -> None:
    from ablate.model.weights import check_loaded

    class Odd(nn.Module):
        base_model_prefix = "base"
        config = AutoConfig.for_model("mpnet")

        def __init__(self) -> None:
            super().__init__()
            self.base, self.verdict = nn.Linear(2, 2), nn.Linear(2, 2)

    info = {"missing_keys": ["verdict.weight"], "mismatched_keys": [], "unexpected_keys": []}
    with pytest.raises(ValueError, match=r"would be random: verdict\.weight\)\. Describe .*conf/roles/mpnet\.yaml"):
        check_loaded(Odd(), info, "path")
    info["missing_keys"] = ["base.weight"]
    with pytest.raises(ValueError, match=r"would be random: base\.weight\)$"):
        check_loaded(Odd(), info, "path")


def test_a_base_checkpoint_gets_a_fresh_head(tmp_path: Path) -> None:
    model = Pretrained(str(save(tmp_path / "base", "mpnet", AutoModel)), None, lr=1.0)
    _, found = model.load(2)
    assert not any(name.startswith("classifier.") for name in found)


def test_heads_are_those_of_transformers() -> None:
    """Of every sequence classifier of text whose module can be read: its submodules outside the base model."""
    import ast
    import importlib.util

    models = Path(importlib.util.find_spec("transformers").origin).parent / "models"
    audio = {"projector", "layer_weights"}
    unknown = {}
    for file in models.glob("*/modeling_*.py"):
        if "class " not in (text := file.read_text()) or "ForSequenceClassification(" not in text:
            continue
        for each in ast.parse(text).body:
            if isinstance(each, ast.ClassDef) and each.name.endswith("ForSequenceClassification"):
                calls = [n for n in ast.walk(each) if isinstance(n, ast.Assign) and isinstance(n.value, ast.Call)]
                made = {ast.unparse(n.targets[0]): ast.unparse(n.value.func) for n in calls}
                heads = {key.removeprefix("self.") for key, made_by in made.items() if key.startswith("self.") and
                         (made_by.endswith(("Linear", "Head", "Summary")))}  # fmt: skip
                if left := heads - set(HEADS.split("|")) - audio:
                    unknown[each.name] = left
    assert unknown == {}
    for head in HEADS.split("|"):
        assert role(f"{head}.out_proj.weight").block == "head"


def test_shipped_files_are_valid_and_name_their_model_types() -> None:
    shipped = [each for each in parameter_roles.model_families() if each.file.parent == Path(conf()) / "roles"]
    assert len(shipped) == 9 and all(each.file.stem in each.model_types for each in shipped)
    assert family_of(Path("x"), {"blocks": {"a.*": "mlp"}}).mlp_output.fullmatch("a") is None
