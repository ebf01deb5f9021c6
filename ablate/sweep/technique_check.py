"""Checks of an arm's techniques before the first run: each hook is called once, on small tensors.

The tensors have the names, and so the roles, of the model's own parameters, and at most `SIDE` entries per dimension. A
wrong signature, a factor out of range, a NaN or a changed weight is found here, and is not an outcome of an arm.
"""

import copy
import inspect
import io
import math
import typing
from collections.abc import Callable, Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ablate.adapter import Adapter
from ablate.average import Average
from ablate.clip import GradientRule, NormRule, check_rule, rule_name
from ablate.config.checks import refusal, require
from ablate.data.batches import Batch
from ablate.experiment import Options
from ablate.freeze import FreezeRule, FreezeSchedule, Freezing
from ablate.freeze import Nothing as NoFreezing
from ablate.init import Initialiser
from ablate.model.parameter_roles import role
from ablate.optimizer import OptimizerRule, check_groups
from ablate.regularizer import LossRule, WeightRule
from ablate.run.progress import log
from ablate.scheduler import Scheduler
from ablate.task import Task
from ablate.techniques import Begins, Stateful, Technique, TechniqueSet
from ablate.training.learner import roles_of, with_adapters

HOOKS = (*typing.get_args(Technique), Begins, Stateful, Scheduler, OptimizerRule)
SIDE = 3
SIZES = (1e-3, 1.0, 1e3)  # of the gradients with which rules on tensors are called
Found = TypeVar("Found")


def check_techniques(options: Options, structure: nn.Module, classes: int) -> None:
    """Call each hook of an arm's techniques once. Raises ValueError, which names the group and what was wrong.

    structure: the model, perhaps on torch's meta device; it stays as it is. So do torch's random streams.
    """
    check_sharding(options)
    for group, each in options.techniques.groups.items():
        check_inner_rule(group, each)
    with torch.random.fork_rng():
        call_each_hook(options, structure, classes)


def call_each_hook(options: Options, structure: nn.Module, classes: int) -> None:
    """The calls of `check_techniques`, in the order in which a run makes them."""
    techniques = options.techniques
    model, adapted = call_hook("adapter", options.adapter, with_adapters, copy.deepcopy(structure), techniques, 0)
    if adapted and not isinstance(options.freeze, NoFreezing):
        log.warning("freeze has no effect here: the adapter freezes the model's own weights itself; set freeze=none")
    rules = techniques.having(FreezeRule, FreezeSchedule)
    freezing = call_hook("freeze", options.freeze, Freezing, model, list(rules.values()), adapted)
    if (last := max(freezing.changes)) > options.trainer.steps:
        log.warning(
            "freeze changes up to step %d, beyond trainer.steps=%d: part of it never acts", last, options.trainer.steps
        )
    small = shrunk(model)
    trained = {name: p for name, p in small.named_parameters() if name in freezing.trained}
    for group, each in techniques.having(Initialiser).items():
        call_hook(group, each, each.initialise, small, roles_of(small), torch.Generator().manual_seed(0))
        check_finite_values(group, each, dict(small.named_parameters()))
    for group, each in techniques.having(Begins).items():
        call_hook(group, each, each.begin, trained, 0)
    memories = {group: memory_of(each) for group, each in techniques.groups.items()}
    for group, each in techniques.having(NormRule).items():
        check_rule(each, group)
    for group, each in techniques.having(GradientRule).items():
        check_gradient_rule(group, each, trained)
    for group, each in techniques.having(LossRule).items():
        check_loss(group, each, small, options.task, classes)
    for group, each in techniques.having(WeightRule).items():
        check_weights(group, each, small)
    check_schedule(options)
    check_optimizer(options, trained)
    for group, each in techniques.having(Average).items():
        check_average(group, each, trained)
    for group, each in techniques.having(Stateful).items():
        call_hook(group, each, each.load_state_dict, call_hook(group, each, saved_state, each))
    warn_of_unsaved_state(techniques, memories)


def check_inner_rule(group: str, rule: object) -> None:
    """Raise ValueError for a rule inside another that has hooks besides that on the gradient: nothing calls them.

    >>> from ablate.clip import Delayed, Fixed
    >>> check_inner_rule("clip", Delayed(start=2, rule=Fixed()))
    """
    inner = getattr(rule, "rule", None)
    if inner is None:
        return
    found = [hook.__name__ for hook in HOOKS if isinstance(inner, hook) and hook not in (NormRule, GradientRule)]
    if found:
        what = f"a rule without other hooks, as {rule_name(rule)} calls none of {', '.join(found)}"
        raise refusal(f"{group}.rule", rule_name(inner), what)
    check_inner_rule(f"{group}.rule", inner)


def memory_of(rule: object) -> bytes | None:
    """What a rule remembers, as bytes to compare; None if it cannot be saved."""
    file = io.BytesIO()
    try:
        torch.save(dict(vars(rule)), file)
    except Exception:  # an attribute of a user's class can be anything
        return None
    return file.getvalue()


def warn_of_unsaved_state(techniques: TechniqueSet, memories: Mapping[str, bytes | None]) -> None:
    """Warn of techniques that changed themselves in a step: a checkpoint does not keep that."""
    for group, each in techniques.groups.items():
        if not isinstance(each, Stateful) and memory_of(each) != memories[group]:
            warn_once(
                f"{group}: {rule_name(each)} changes its own attributes during a step, and a resumed run would begin "
                "without them; add state_dict and load_state_dict"
            )


@cache
def warn_once(message: str) -> None:
    """Log a warning, once however many arms it holds for."""
    log.warning(message)


def call_hook(group: str, rule: object, hook: Callable[..., Found], *arguments: Any) -> Found:
    """What a rule's hook returns. Raises ValueError, which names the rule, for whatever the hook raises."""
    try:
        return hook(*arguments)
    except ValueError as error:
        if str(error).startswith(group):
            raise
        raise ValueError(f"{group}: {rule_name(rule)}: {error}") from error
    except Exception as error:  # a user's code can raise anything
        raise ValueError(f"{group}: {hook_name(rule, hook)} fails: {type(error).__name__}: {error}") from error


def hook_name(rule: object, hook: Callable[..., Any]) -> str:
    """A rule's method with the arguments that ablate calls it with; the rule's name for what is not a method of it.

    >>> from ablate.clip import Fixed
    >>> rule = Fixed()
    >>> hook_name(rule, rule.scale)
    'ablate.clip.norm_rules.Fixed.scale(norm, t, state)'
    """
    name = getattr(hook, "__name__", "")
    for protocol in HOOKS:
        if name in vars(protocol) and getattr(rule, name, None) == hook:
            arguments = [each for each in inspect.signature(vars(protocol)[name]).parameters if each != "self"]
            return f"{rule_name(rule)}.{name}({', '.join(arguments)})"
    return rule_name(rule)


def shrunk(model: nn.Module) -> nn.Module:
    """A copy of a model, on the CPU, whose parameters have at most SIDE entries per dimension."""
    small, draw = copy.deepcopy(model), torch.Generator().manual_seed(0)
    for module in small.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                values = torch.randn([min(SIDE, n) for n in parameter.shape], generator=draw)
                module._parameters[name] = nn.Parameter(values, parameter.requires_grad)
    return small


def outputs(shape: tuple[int, ...]) -> Callable[..., SimpleNamespace]:
    """A forward pass that returns random logits."""

    def forward(input_ids: Tensor, attention_mask: Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=torch.randn(shape, requires_grad=True))

    return forward


def check_sharding(options: Options) -> None:
    """Raise ValueError for techniques that need whole tensors where each rank has a shard of them."""
    if options.trainer.distributed != "fsdp":
        return
    techniques = options.techniques
    whole = techniques.having(GradientRule, WeightRule, FreezeSchedule, Adapter, Average, Begins)
    for group, each in whole.items():
        if type(each).__name__ != "Nothing":
            why = f"ddp with {group}: {rule_name(each)}, which needs whole tensors or changes what is trained"
            raise refusal("trainer.distributed", "fsdp", why)


def check_gradient_rule(group: str, rule: GradientRule, trained: Mapping[str, nn.Parameter]) -> None:
    inner = getattr(rule, "rule", None)
    if isinstance(inner, GradientRule):  # first, as a rule that acts late is not called below
        check_gradient_rule(group, inner, trained)
    roles, state = {name: role(name) for name in trained}, None
    for t, size in enumerate(SIZES, start=1):
        draw = torch.Generator().manual_seed(t)
        gradients = {name: size * torch.randn(p.shape, generator=draw) for name, p in trained.items()}
        weights = {name: p.detach().clone() for name, p in trained.items()}
        state = call_hook(group, rule, rule.clip, gradients, weights, roles, t, state)
        check_finite_values(group, rule, gradients)
        if not all(torch.equal(weights[name], p) for name, p in trained.items()):
            raise ValueError(f"{group}: {rule_name(rule)} must not change the weights")
    call_hook(group, rule, saved, state)


def check_loss(group: str, rule: LossRule, model: nn.Module, task: Task, classes: int) -> None:
    if task.kind == "regression" and getattr(rule, "needs_classes", False):
        raise refusal(group, rule_name(rule), "a regularizer that needs no classes, as task=regression has none")
    ids = torch.ones(2, 3, dtype=torch.long)
    by_token = task.kind in ("token_classification", "causal_lm")
    shape = (2, 3, classes) if by_token else (2, classes)
    labels = torch.tensor([0, classes - 1])
    labels = labels.float() if task.kind == "regression" else labels[:, None].expand(2, 3) if by_token else labels
    batch = Batch(ids, torch.ones_like(ids), labels)
    model.forward = outputs(shape)
    logits = torch.randn(shape, requires_grad=True)
    loss = task.loss(logits, batch.labels)
    found = call_hook(group, rule, rule.loss, loss, logits, batch, model, 1)
    scalar = isinstance(found, Tensor) and found.ndim == 0 and found.requires_grad and math.isfinite(found.detach())
    require(
        f"{group}: the loss that {rule_name(rule)} returns", found, scalar, "a finite scalar tensor with a gradient"
    )


def check_weights(group: str, rule: WeightRule, model: nn.Module) -> None:
    before = {name: p.detach().clone() for name, p in model.named_parameters()}

    def enter() -> None:
        with rule.weights(model, 1):
            for p in model.parameters():
                p.grad = torch.ones_like(p) if p.requires_grad else None

    call_hook(group, rule, enter)
    for name, p in model.named_parameters():
        require(
            f"{group}: {name} after {rule_name(rule)}.weights", p.tolist(), torch.equal(p, before[name]), "as before"
        )
        p.grad = None


def check_schedule(options: Options) -> None:
    """Raise ValueError unless the schedule's factor is a finite number, at least 0, at every step."""
    for t in range(1, options.trainer.steps + 1):
        factor = call_hook("scheduler", options.scheduler, options.scheduler.factor, t, options.trainer.steps)
        fits = isinstance(factor, (int, float)) and 0 <= factor < math.inf
        require(
            f"scheduler: the factor of {rule_name(options.scheduler)} at step {t}", factor, fits, "finite, at least 0"
        )


def check_optimizer(options: Options, trained: Mapping[str, nn.Parameter]) -> None:
    """Raise ValueError unless the optimizer has each trained parameter once and makes a finite update."""
    named = [(name, nn.Parameter(p.detach().clone())) for name, p in trained.items()]
    optimizer = call_hook("optimizer", options.optimizer, options.optimizer.build, named)
    check_groups(optimizer, named)
    for _, p in named:
        p.grad = torch.ones_like(p)
    call_hook("optimizer", options.optimizer, optimizer.step)
    check_finite_values("optimizer", options.optimizer, dict(named))
    call_hook("optimizer", options.optimizer, optimizer.load_state_dict, saved(optimizer.state_dict()))


def check_average(group: str, rule: Average, trained: Mapping[str, nn.Parameter]) -> None:
    before = {name: p.detach().clone() for name, p in trained.items()}
    state = call_hook(group, rule, rule.update, trained, 1, None)

    def enter() -> None:
        with rule.evaluating(trained, saved(state)):
            check_finite_values(group, rule, trained)

    call_hook(group, rule, enter)
    for name, p in trained.items():
        require(
            f"{group}: {name} after {rule_name(rule)}.evaluating", p.tolist(), torch.equal(p, before[name]), "as before"
        )


def check_finite_values(group: str, rule: object, tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless all tensors that a rule has changed are finite."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{group}: {rule_name(rule)} must leave finite values (got NaN or infinity in {name})")


def saved_state(rule: Stateful) -> Any:
    return saved(rule.state_dict())


def saved(state: Any) -> Any:
    """A rule's state as a checkpoint gives it back. Raises an error for what a checkpoint cannot hold."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
