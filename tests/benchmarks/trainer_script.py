"""The same fine-tuning as a user would write it with transformers' Trainer, without `ablate`: the rival in benchmarks.

    python trainer_script.py --model MODEL_FOLDER --data FOLDER_OF_CSV --clip-from 1 --seeds 0

Performs one run, or one per combination of several values, all in one process. Prints one line of JSON per run. Logs
loss, gradient norm and learning rate of each step, evaluates validation and test at the end, and saves no checkpoints.
"""

import argparse
import json
import re
import tempfile
import time
from pathlib import Path

import torch
from datasets import DatasetDict, load_dataset
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

WRITE_UP = "^(?!.*(embeddings|attention))"  # embeddings and attention are frozen


class DelayedClippingTrainer(Trainer):
    """Clips the gradient norm at 1 from step `clip_from` on (steps count from 1)."""

    def __init__(self, clip_from: int, **settings) -> None:
        super().__init__(**settings)
        self.clip_from = clip_from

    def training_step(self, *inputs, **more) -> torch.Tensor:
        step = self.state.global_step + 1
        self.args.max_grad_norm = 1.0 if step >= self.clip_from else 0.0  # 0 logs the norm without clipping
        return super().training_step(*inputs, **more)


def schedule(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Warm-up over 5 % of the steps, then linear decay that would reach 0 at one and a half times the steps."""
    warm, horizon = int(0.05 * steps + 0.5), int(1.5 * steps + 0.5)
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda done: (done + 1) / warm if done + 1 <= warm else 1 - (done + 1) / horizon
    )


class StepTimes(TrainerCallback):
    """Notes when each step ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_, **__) -> None:
        self.ends.append(time.perf_counter())

    def per_step(self) -> float | None:
        """Mean seconds per step, after two steps of warm-up."""
        return (self.ends[-1] - self.ends[1]) / (len(self.ends) - 2) if len(self.ends) > 2 else None


def freeze(model: PreTrainedModel, trained: str) -> list[nn.Parameter]:
    """Freeze the parameters whose name has no match of `trained`, and return the others."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = re.search(trained, name) is not None
    return [p for p in model.parameters() if p.requires_grad]


def accuracy(predicted: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float((predicted.predictions.argmax(-1) == predicted.label_ids).mean())}


def make_trainer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: DatasetDict, clip_from: int, seed: int,
    output: str, *, steps: int, batch_size: int, lr: float, bf16: bool = False, group_by_length: bool = False,
    trained: str = WRITE_UP,
) -> DelayedClippingTrainer:  # fmt: skip
    optimizer = torch.optim.AdamW(freeze(model, trained), lr=lr, fused=True)
    return DelayedClippingTrainer(
        clip_from,
        model=model,
        args=TrainingArguments(
            output_dir=output,
            max_steps=steps,
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=64,
            train_sampling_strategy="group_by_length" if group_by_length else "random",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            bf16=bf16,
            use_cpu=not torch.cuda.is_available(),
            seed=seed,
        ),
        train_dataset=data["train"],
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=accuracy,
        optimizers=(optimizer, schedule(optimizer, steps)),
    )


def read_data(folder: Path, tokenizer: PreTrainedTokenizerBase, max_length: int) -> DatasetDict:
    files = {split: str(folder / f"{split}.csv") for split in ("train", "validation", "test")}
    return load_dataset("csv", data_files=files).map(
        lambda rows: tokenizer(rows["text"], truncation=True, max_length=max_length), batched=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument(
        "--clip-from",
        type=int,
        nargs="+",
        default=[1],
        help="steps at which clipping starts; a step after the last one means never",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--trained", default=WRITE_UP, help="regular expression of the names of trained parameters")
    parser.add_argument("--group-by-length", action="store_true")
    a = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    data = read_data(a.data, tokenizer, a.max_length)
    for seed in a.seeds:
        for clip_from in a.clip_from:
            set_seed(seed)
            model = AutoModelForSequenceClassification.from_pretrained(a.model, num_labels=2, dtype=torch.float32)
            nn.init.xavier_uniform_(model.classifier.weight)
            with tempfile.TemporaryDirectory() as output:
                trainer = make_trainer(
                    model, tokenizer, data, clip_from, seed, output, steps=a.steps, batch_size=a.batch_size,
                    lr=a.lr, bf16=a.bf16, group_by_length=a.group_by_length, trained=a.trained,
                )  # fmt: skip
                times = StepTimes()
                trainer.add_callback(times)
                began = time.perf_counter()
                trainer.train()
                trained = time.perf_counter()
                validation = trainer.evaluate(data["validation"])
                test = trainer.predict(data["test"]).metrics
                found = {
                    "trained": a.trained, "clip_from": clip_from, "seed": seed, "step_seconds": times.per_step(),
                    "train_seconds": trained - began, "evaluate_seconds": time.perf_counter() - trained,
                    "validation_accuracy": validation["eval_accuracy"], "test_accuracy": test["test_accuracy"],
                }  # fmt: skip
                print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
