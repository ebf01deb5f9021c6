"""Build a run from its options: the learner, the order of examples and batches, and the hashes that pair arms."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ablate.adapter import Adapter
from ablate.average import Average
from ablate.clip import GradientRule, NormRule, rule_name
from ablate.config.checks import refusal
from ablate.config.wording import nearest
from ablate.data.batches import Batches, Examples, grouped_order, planned_order
from ablate.data.corpus import Corpus
from ablate.distributed.parallel import parallel, shard_like, whole
from ablate.distributed.ranks import ALONE, Ranks
from ablate.experiment import Options
from ablate.freeze import FreezeRule, FreezeSchedule, Freezing
from ablate.init import Initialiser
from ablate.model.first_token import READ_BY_HEAD, skip_unread
from ablate.model.loading import build_model
from ablate.model.parameter_roles import Role, check_known, classifier_weight, mlp_weight, role, unadapted
from ablate.optimizer import check_groups, group_names
from ablate.regularizer import LossRule, WeightRule
from ablate.seeds import stream
from ablate.techniques import TechniqueSet, needs_roles
from ablate.trainer import Track, Trainer
from ablate.training.device import checkpoint_activations, compile_forward, matmul_backend, use_onednn
from ablate.training.dropout import make_dropout
from ablate.training.frozen_prefix import frozen_prefix
from ablate.training.step import Learner


def make_learner(
    options: Options,
    texts: Corpus,
    seed: int,
    accelerator: Accelerator,
    nuisance: int = 0,
    ranks: Ranks = ALONE,
) -> Learner:
    """Build the model (head initialised, blocks frozen, on its device, shared by all ranks) and its optimizer."""
    trainer, techniques = options.trainer, options.techniques
    task = options.task
    model = build_model(options.model, task.kind, task.outputs(texts.classes), seed, texts.tokenizer)
    check_roles(options, model)
    prepare_weights(model, techniques, seed)
    model, adapted = with_adapters(model, techniques, seed)
    names = [name for name, _ in model.named_parameters()]
    freezing = Freezing(model, list(techniques.having(FreezeRule, FreezeSchedule).values()), adapted)
    if trainer.skip_unread and task.kind in READ_BY_HEAD:
        skip_unread(model)
    if matmul_backend(trainer) == "onednn":
        use_onednn(model)
    if trainer.gradient_checkpointing:
        checkpoint_activations(model)
    shared = parallel(trainer, ranks, accelerator.device)
    model = accelerator.prepare_model(model, evaluation_mode=True)  # sets precision and device; `shared` does the rest
    wrapped = shared.wrap(model)
    parameters = dict(model.named_parameters())  # new objects if they are sharded
    trained = {name: parameters[name] for name in freezing.trained}
    optimizer = options.optimizer.build(list(trained.items()))
    check_groups(optimizer, list(trained.items()))
    techniques.begin(trained, {group: stream(group, seed, nuisance) for group in techniques.groups})
    if trainer.compile:
        compile_forward(model)
    stream_seed = stream("dropout", seed, nuisance, ranks.index)
    return Learner(
        task=task,
        model=model,
        wrapped=wrapped,
        trained=trained,
        optimizer=optimizer,
        peak_lrs=tuple(group["lr"] for group in optimizer.param_groups),
        scheduler=options.scheduler,
        techniques=techniques,
        freezing=freezing,
        clips=techniques.having(NormRule, GradientRule),
        losses=techniques.having(LossRule),
        weights=techniques.having(WeightRule),
        averages=techniques.having(Average),
        roles={name: role(name) for name in trained},
        parameters=sum(p.numel() for p in parameters.values()),
        rate_names=group_names(optimizer),
        updates_every=trainer.track.updates_every,
        noise_every=trainer.track.noise_every,
        accumulation=trainer.grad_accumulation,
        dropout=make_dropout(stream_seed, accelerator.device, trainer.compile, trainer.gradient_checkpointing),
        frozen_dropout=trainer.frozen_dropout,
        prefix=frozen_prefix(options, model, freezing, texts, accelerator, ranks),
        steps=trainer.steps,
        examples=trainer.examples_per_step,
        accelerator=accelerator,
        ranks=ranks,
        parallel=shared,
        tracked=tracked_parameters(trainer.track, names),
    )


def check_roles(options: Options, model: nn.Module) -> None:
    """Raise ValueError for an option that needs the roles of parameters if the model has one whose role is unknown."""
    names = [name for name, _ in model.named_parameters()]
    family = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    for group, each in {**options.techniques.groups, "optimizer": options.optimizer}.items():
        if needs_roles(each):
            check_known(group, rule_name(each), names, family)


def prepare_weights(model: nn.Module, techniques: TechniqueSet, seed: int) -> None:
    """Draw weights anew as the arm's initialisers say, each from a random stream of its own."""
    for group, each in techniques.having(Initialiser).items():
        with drawing_from(stream(group, seed)) as generator:
            each.initialise(model, roles_of(model), generator)


def with_adapters(model: nn.Module, techniques: TechniqueSet, seed: int) -> tuple[nn.Module, bool]:
    """The model with the arm's adapters in it, and whether they froze any weight.

    New weights come from a random stream of their own.
    """
    model.requires_grad_(True)
    for group, each in techniques.having(Adapter).items():
        with drawing_from(stream(group, seed)):
            model = each.wrap(model, roles_of(model))
    return model, not all(p.requires_grad for p in model.parameters())


@contextmanager
def drawing_from(seed: int) -> Iterator[torch.Generator]:
    """Context in which torch's global generator begins at `seed`; yields another generator that does."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def roles_of(model: nn.Module) -> dict[str, Role]:
    """The place of each parameter of a model, by name."""
    return {name: role(name) for name, _ in model.named_parameters()}


def tracked_parameters(track: Track, names: Sequence[str]) -> tuple[str | None, str | None]:
    """The parameters behind G_MLP and G_CLS; None where the setting is null and no file of conf/roles has the weight.

    Settings name a parameter as the model without an adapter does. Raises ValueError for a name that is none of the
    model's `names`.
    """
    known = {unadapted(name): name for name in names}
    for key, name in (("mlp", track.mlp), ("classifier", track.classifier)):
        if name is not None and name not in known:
            what = refusal(f"trainer.track.{key}", name, "null or the name of a parameter of the model")
            raise ValueError(f"{what}; {nearest(name, names)}")
    mlp, classifier = track.mlp or mlp_weight(names), track.classifier or classifier_weight(names)
    return known.get(mlp, mlp), known.get(classifier, classifier)


def load_state(learner: Learner, trained: Mapping[str, Tensor], optimizer: Mapping[str, Any]) -> None:
    """Load the whole tensors of a checkpoint into the learner, sharded if the learner's tensors are."""
    with torch.no_grad():
        for name, parameter in learner.trained.items():
            parameter.copy_(shard_like(trained[name], parameter))
    groups = learner.optimizer.param_groups
    like = dict(enumerate(p for group in groups for p in group["params"]))  # as the optimizer counts them
    states = {
        i: {key: shard_like(value, like[i]) if isinstance(value, Tensor) else value for key, value in state.items()}
        for i, state in optimizer["state"].items()
    }
    learner.optimizer.load_state_dict({**optimizer, "state": states})


def order_of_examples(options: Options, train: Examples, seed: int) -> Tensor:
    """Indices of the examples of all steps in training order, the same for all arms of a seed."""
    trainer, stream_seed = options.trainer, stream("order", seed)
    count = trainer.steps * trainer.examples_per_step
    if options.data.group_by_length:
        return grouped_order([len(ids) for ids in train.input_ids], count, stream_seed, trainer.batch_size)
    return planned_order(len(train), count, stream_seed)


def make_batches(
    trainer: Trainer,
    train: Examples,
    order: Tensor,
    pad_id: int,
    ranks: Ranks = ALONE,
) -> Batches:
    """The batches of a run, with the sizes that the trainer sets."""
    sizes = (trainer.batch_size, trainer.grad_accumulation, trainer.length_splits)
    multiple = trainer.piece_multiple if trainer.length_splits > 1 else 1
    return Batches(train, order, *sizes, pad_id, multiple, ranks)


def pairing(order: Tensor, learner: Learner) -> dict[str, str]:
    """Everything that the arms of a seed must share: hashes of order and initial head, name of the dropout stream."""
    start = [whole(p.detach()).cpu() for name, p in learner.model.named_parameters() if role(name).block == "head"]
    return {"batches": hash_of([order]), "head": hash_of(start), "dropout": learner.dropout.algorithm}


def hash_of(tensors: Iterable[Tensor]) -> str:
    sha256 = hashlib.sha256()
    for tensor in tensors:
        sha256.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
    return sha256.hexdigest()
