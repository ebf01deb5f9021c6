"""Numbers and statements of the course write-up that the package was built to re-examine.

The engine reads them from here and imports nothing else that belongs to one study. Section numbers are those of the
write-up; conf/claims/paper.yaml has its claims.
"""

REPORTED = {"4.3": (0.85, 0.90)}
"""Section -> test accuracy before and after, both "about": BERT-base on IMDB, one batch of 64 reviews of one class."""

ROLES = {"freeze": "fewer parameters", "clip": "stability", "scheduler": "convergence"}
"""Factor -> its purpose as section 5.2 states it."""

JITTER_LAG = 10
"""Steps between the points of the second difference that defines jitter. Part of the definition: never tuned."""

JITTER_START = 60
"""First step of the jitter: the steepest fall of the loss is over by then."""

PROBE_LEVEL = 0.5
"""Probe loss in nats whose first step measures how fast a run converges."""

SIZES_COMMAND = "python -m ablate -m experiment=scale"
"""Runs pretrained models of several sizes, in a study of their own because their other settings differ."""

CONTROLS_EXPERIMENT = "experiment=controls"
"""Runs the arms of the table of controls."""
