"""Each run's model starts from the same bits as in a new process, whatever ran before it."""

from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from torch import nn

from ablate.files.hashing import matching_sha256
from ablate.freeze import Blocks, freeze
from ablate.model import loading as module
from ablate.model.loading import Model, Pretrained, Random, Tiny, Vocabulary, hub_folder, load_tokenizer
from ablate.model.word_tokenizer import SPECIAL, word_tokenizer
from ablate.training.learner import hash_of
from tests.faults.harness import PATIENCE, finish, server
from tests.faults.models import save_model

VOCABULARY = Vocabulary(size=64, pad_token_id=0)
TINY = Tiny(lr=1e-3, hidden=16)
LLAMA = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
RANDOM = Random("llama", LLAMA, lr=1e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model"
    save_model(path)
    return path


@pytest.fixture(params=["pretrained", "tiny", "random"])
def model(request: pytest.FixtureRequest, folder: Path) -> Model:
    return {"tiny": TINY, "random": RANDOM, "pretrained": Pretrained(str(folder), None, lr=1e-3)}[request.param]


def state(model: nn.Module) -> str:
    """Everything in which two new models can differ: bits, buffers, modes, trained and tied parameters, settings."""
    tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    tied = sorted(sorted(n for n, t in tensors.items() if t is tensor) for tensor in set(tensors.values()))
    modes = [module.training for module in model.modules()]
    dropouts = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    asked = [(name, tensor.requires_grad, str(tensor.dtype)) for name, tensor in tensors.items()]
    settings = sorted((k, str(v)) for k, v in model.config.to_dict().items() if k != "_name_or_path")
    return str((hash_of(t.detach() for t in tensors.values()), tied, modes, dropouts, asked, settings))


def tell_state(model: Model, tell: Connection) -> None:
    """In a new process: send the state of the model that it builds first."""
    tell.send(state(model.build(2, 3, VOCABULARY)))


def train(model: nn.Module) -> None:
    """The hardest case: write every weight, in place and through an optimizer, and freeze some."""
    freeze(model, Blocks(("embedding", "attention")))
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model(input_ids=torch.tensor([[2, 5, 3]]), labels=torch.tensor([1])).loss.backward()
    optimizer.step()
    with torch.no_grad():
        for tensor in (*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())):
            tensor.add_(1)
    model.config.hidden_dropout_prob = 0.9
    model.eval()


def test_the_next_model_is_that_of_a_fresh_process(model: Model) -> None:
    first = model.build(2, 3, VOCABULARY)
    before = state(first)
    train(first)
    assert state(first) != before  # the control: the state can differ
    second = model.build(2, 3, VOCABULARY)
    assert state(second) == before
    told, tell = Pipe(duplex=False)
    fresh = server().Process(target=tell_state, args=(model, tell))  # type: ignore[attr-defined]
    fresh.start()
    assert told.poll(PATIENCE) and told.recv() == before
    assert finish(fresh) == 0
    assert all(p.requires_grad and p.dtype == torch.float32 for p in second.parameters())


def test_a_run_is_not_altered_by_the_next(model: Model) -> None:
    """Two models of one process share no memory that either of them writes to."""
    first, second = (model.build(2, 3, VOCABULARY) for _ in range(2))
    before = state(second)
    train(first)
    assert state(second) == before


def test_the_file_stays_as_it_is(folder: Path) -> None:
    """The weights are mapped from the file: a write must not reach it."""
    content = (folder / "model.safetensors").read_bytes()
    train(Pretrained(str(folder), None, lr=1e-3).build(2, 0, VOCABULARY))
    assert (folder / "model.safetensors").read_bytes() == content


def test_seeds_differ_in_what_the_checkpoint_lacks(folder: Path) -> None:
    one, other = (dict(Pretrained(str(folder), None, 1e-3).build(2, s, VOCABULARY).named_parameters()) for s in (0, 1))
    differing = [name for name in one if not torch.equal(one[name], other[name])]
    assert differing == ["classifier.weight"]
    again = dict(Pretrained(str(folder), None, 1e-3, "default").build(2, 1, VOCABULARY).named_parameters())
    assert not torch.equal(again["classifier.weight"], other["classifier.weight"])


def test_building_draws_no_number_from_the_global_generator(model: Model) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    model.build(2, 0, VOCABULARY)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_needs_only_the_vocabulary(folder: Path) -> None:
    """The tokenizer itself does not exist if the tokens come from the cache."""
    tokenizer = word_tokenizer(["a fine film", "a dull film"], 60, 128)
    for model in (TINY, Pretrained(str(folder), None, lr=1e-3)):
        small = Vocabulary(len(tokenizer), tokenizer.pad_token_id)
        assert state(model.build(2, 0, small)) == state(model.build(2, 0, tokenizer))


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str | None]]]:
    """The requests to a hub whose only model is `folder`."""
    asked: list[tuple[str, str | None]] = []
    hub_folder.cache_clear()
    monkeypatch.setattr(module, "snapshot", lambda key, path, revision, *rest: asked.append((path, revision)) or folder)
    yield asked
    hub_folder.cache_clear()


def test_the_hub_is_asked_once_per_process(hub: list, folder: Path) -> None:
    for seed in range(3):
        model = Pretrained("owner/name", "main", lr=1e-3)
        model.build(2, seed, VOCABULARY)
        model.tokenizer([])
        assert model.tokenizer_identity() == Pretrained(str(folder), None, lr=1e-3).tokenizer_identity()
    assert hub == [("owner/name", "main")]
    Pretrained("owner/name", "other", lr=1e-3).locate()
    assert hub == [("owner/name", "main"), ("owner/name", "other")]


def test_identity_counts_names_and_contents(tmp_path: Path) -> None:
    for name in ("a.json", "b.txt", "c.safetensors"):
        (tmp_path / name).write_text(name)
    model = Pretrained(str(tmp_path), None, lr=1e-3)
    assert model.identity() == {"sha256": matching_sha256(tmp_path, ["*.json", "*.txt", "*.safetensors"])}
    before = model.identity()
    (tmp_path / "notes.md").write_text("no part of the model")
    assert model.identity() == before
    (tmp_path / "c.safetensors").write_text("other")
    assert model.identity() != before


def test_tokenizer_without_padding(tmp_path: Path) -> None:
    tokenizer = word_tokenizer(["a film"], 10, 16)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="tokenizer has a padding token or an end-of-text token"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("architecture", "config", "message"),
    [
        ("llame", LLAMA, "architecture must be"),
        ("llama", LLAMA | {"hidden": 16}, "config.hidden must be"),
        ("llama", {"hidden_size": 16}, "config.vocab_size must be"),
        ("llama", LLAMA | {"vocab_size": 4}, "config.vocab_size must be"),
    ],
)
def test_a_random_model_names_what_is_wrong(architecture: str, config: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Random(architecture, config, lr=1e-3)


def test_the_seed_changes_a_random_models_head_but_not_its_body() -> None:
    def bits(weights_seed: int, seed: int) -> tuple[str, str]:
        model = Random("llama", LLAMA, lr=1e-3, head_init="default", weights_seed=weights_seed).build(
            2, seed, VOCABULARY
        )
        head, body = model.score.weight.detach(), [p.detach() for n, p in model.named_parameters() if "score" not in n]
        return hash_of([head]), hash_of(body)

    assert bits(0, 0)[1] == bits(0, 1)[1] != bits(1, 0)[1]
    assert bits(0, 0)[0] == bits(1, 0)[0] != bits(0, 1)[0]


def test_decoders_keep_no_cache() -> None:
    assert RANDOM.build(2, 0, VOCABULARY).config.use_cache is False


def test_a_rate_of_dropout_is_that_of_all_modules_and_of_attention(folder: Path) -> None:
    """Null keeps the checkpoint's rates; at 0 training and evaluation give the same bits."""
    kept, off = (Pretrained(str(folder), None, lr=1e-3, dropout=rate).build(2, 3, VOCABULARY) for rate in (None, 0.0))
    rates = [{m.p for m in model.modules() if isinstance(m, nn.Dropout)} for model in (kept, off)]
    assert rates[0] != {0.0} and rates[1] == {0.0}
    ids = torch.tensor([[2, 5, 3]])
    for model, is_same in ((kept, False), (off, True)):
        trained, evaluated = model.train()(input_ids=ids).logits, model.eval()(input_ids=ids).logits
        assert torch.equal(trained, evaluated) == is_same


def test_a_rate_of_dropout_that_a_family_cannot_have_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"dropout must be null or a number in \[0, 1\) \(got 1\)"):
        Pretrained(str(folder), None, lr=1e-3, dropout=1)
    monkeypatch.setattr(module, "DROPOUT_RATES", ("classifier_dropout",))
    with pytest.raises(ValueError, match=r"model\.dropout must be null for this family: .* has the rate 0\.1"):
        Pretrained(str(folder), None, lr=1e-3, dropout=0.2).build(2, 3, VOCABULARY)


# --- The whole-word tokenizer ---


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
