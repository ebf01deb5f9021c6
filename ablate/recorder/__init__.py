"""Records a run of a user's own PyTorch loop, as `python -m ablate` records its own, for `python -m analysis`.

    with ablate.Recorder("outputs/mine", {"clip": "fixed"}, seed=0, steps=300, labels=["bad", "good"]) as recorder:
        for batch in batches:
            loss = model(**batch).loss
            loss.backward()
            recorder.gradients(model)               # before anything acts on the gradients
            recorder.clip(ablate.clip.Fixed(1.0))   # or clip yourself, then recorder.clipped()
            optimizer.step()
            optimizer.zero_grad()
            recorder.step(loss=loss, lr=2e-4)
        recorder.evaluation("test", labels=labels, probabilities=probabilities)

The records are those of `ablate.schema`. Nothing is made up: what a loop does not provide is null, and run.json lists
it as `not_recorded`. docs/tutorial/own_trainer.md has a complete script.

recorder     the class, with a method per event of the loop
declaration  what a loop declares: factors, id and folder of the run
gradients    what a step does to the gradients
evaluations  their rows, and the metrics of the run
given        predictions from the arrays of a loop
record       the run's folder, from its lock to its run.json
"""

from ablate.recorder.recorder import Diverged, Recorder

__all__ = ["Diverged", "Recorder"]
