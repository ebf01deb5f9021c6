"""A seeded grammar that generates English sentences about films: data that needs no network.

Most words reveal the label, but not all: "not dull" is positive, and in "although the plot is dull, the cast is superb"
the main clause decides. So a small random model reaches about 80 % accuracy in 60 steps with batches of 16 and then
improves slowly, which leaves room for a technique to help or harm.

    splits = generate(seed=0)
    splits["train"][0]          # (text, label), label 1 = positive
"""

from random import Random

VERSION = 1
"""Version of the sentences, part of the data's identity. Raise it whenever the output of `generate` changes."""

SPLIT_SIZES = {"train": 2000, "validation": 200, "test": 400}

THINGS = (
    "plot", "script", "cast", "dialogue", "ending", "pacing", "music", "camera work", "opening", "premise",
    "humor", "lead", "direction", "romance", "action", "editing",
)  # fmt: skip
WORKS = ("film", "movie", "sequel", "drama", "comedy", "thriller", "remake", "story")
ADJECTIVES = (
    ("dull", "clumsy", "predictable", "lifeless", "tedious", "shallow", "messy", "bland", "grating", "hollow",
     "forced", "stale"),
    ("superb", "charming", "gripping", "fresh", "moving", "clever", "delightful", "graceful", "sharp", "warm",
     "inventive", "rich"),
)  # fmt: skip
VERBS = (
    ("bores", "drags", "annoys", "disappoints", "stumbles", "falls flat"),
    ("shines", "delights", "impresses", "soars", "works", "surprises"),
)
ADVERBS = ("truly", "rather", "quite", "simply", "often", "remarkably")
NEGATIONS = ("not", "never", "hardly")


def generate(seed: int) -> dict[str, list[tuple[str, int]]]:
    """Split -> its sentences with labels: `SPLIT_SIZES` of them, all different, every second one positive.

    We use only the method `random()` of Python's generator. It is the only one that is guaranteed to give the same
    numbers for a seed in every version (https://docs.python.org/3/library/random.html#notes-on-reproducibility).
    """
    random = Random(seed)
    seen: dict[str, int] = {}
    while len(seen) < sum(SPLIT_SIZES.values()):
        label = len(seen) % 2
        seen.setdefault(_review(random, label), label)
    reviews = iter(seen.items())
    return {split: [next(reviews) for _ in range(size)] for split, size in SPLIT_SIZES.items()}


def _review(random: Random, label: int) -> str:
    """One clause, two clauses that agree, or two that disagree, where the main clause decides."""
    clause = _clause(random, label)
    if random.random() < 0.3:
        other = _clause(random, 1 - label)
        clause = _pick(random, (f"although {other}, {clause}", f"{clause}, although {other}", f"{other}, but {clause}"))
    elif random.random() < 0.7:
        clause = f"{clause}, and {_clause(random, label)}"
    return f"{clause[0].upper()}{clause[1:]}."


def _clause(random: Random, label: int) -> str:
    subject = _pick(random, (f"the {_pick(random, THINGS)}", f"this {_pick(random, WORKS)}"))
    if random.random() < 0.3:
        return f"{subject} {_pick(random, VERBS[label])}"
    if random.random() < 0.1:
        return f"{subject} is {_pick(random, NEGATIONS)} {_pick(random, ADJECTIVES[1 - label])}"
    return f"{subject} is {_pick(random, ADVERBS)} {_pick(random, ADJECTIVES[label])}"


def _pick(random: Random, choices: tuple[str, ...]) -> str:
    return choices[int(random.random() * len(choices))]
