"""Small data sets of each kind of task, as files."""

import json
import random
from pathlib import Path

COLOURS = {"red": "warm", "orange": "warm", "yellow": "bright", "blue": "cold", "green": "cold"}
PLACES = {"Paris": "LOC", "Rome": "LOC", "Ada": "PER", "Alan": "PER"}


def write(folder: Path, kind: str, examples: int = 160) -> list[str]:
    """Write train.jsonl and test.jsonl; return the overrides that read them."""
    draw = random.Random(0)
    for split, count in (("train", examples), ("test", examples // 2)):
        rows = [ROWS[kind](draw) for _ in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = [f"data.files.{split}={folder / split}.jsonl" for split in ("train", "test")]
    columns = {"pair": ["data.text=[first,second]"], "causal_lm": ["data.label=null", "data.max_length=16"]}
    task = {"pair": "classification", "words": "classification"}.get(kind, kind)
    return [f"task={task}", "data=files", *files, *columns.get(kind, [])]


def words(draw: random.Random) -> dict[str, object]:
    """Three classes, named by words."""
    colour = draw.choice(list(COLOURS))
    return {"text": f"{filler(draw)} {colour} {filler(draw)}", "label": COLOURS[colour]}


def pair(draw: random.Random) -> dict[str, object]:
    """Whether two texts have the same colour."""
    first = draw.choice(list(COLOURS))
    second = first if draw.random() < 0.5 else draw.choice([c for c in COLOURS if c != first])
    return {"first": f"{first} {filler(draw)}", "second": f"{filler(draw)} {second}", "label": int(first == second)}


def regression(draw: random.Random) -> dict[str, object]:
    """The number of colours in a text, and a little noise."""
    number = draw.randrange(5)
    text = [filler(draw), *(draw.choice(list(COLOURS)) for _ in range(number))]
    return {"text": " ".join(text), "label": number + draw.random() / 10}


def token_classification(draw: random.Random) -> dict[str, object]:
    """Entities of one or two words."""
    text, labels = [], []
    for _ in range(draw.randrange(2, 6)):
        if draw.random() < 0.5:
            name, kind = draw.choice(list(PLACES.items()))
            more = draw.random() < 0.3
            text += [name, "Smith"] if more else [name]
            labels += [f"B-{kind}", f"I-{kind}"] if more else [f"B-{kind}"]
        else:
            text.append(draw.choice(["the", "very", "house"]))
            labels.append("O")
    return {"text": text, "label": labels}


def causal_lm(draw: random.Random) -> dict[str, object]:
    """A text in which every word decides the next one."""
    start = draw.randrange(6)
    return {"text": " ".join(f"w{(start + i) % 6}" for i in range(draw.randrange(8, 20)))}


def filler(draw: random.Random) -> str:
    return " ".join(draw.choices(["the", "very", "house", "car", "by", "a"], k=draw.randrange(1, 4)))


ROWS = {"words": words, "pair": pair, "regression": regression, "token_classification": token_classification,
        "causal_lm": causal_lm}  # fmt: skip
