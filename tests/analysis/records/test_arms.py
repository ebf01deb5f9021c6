"""Labels tell arms apart, and nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.records.arms import canonical, in_order, labels

BASE = {
    **{"freeze": "embeddings_attention", "clip": "none", "scheduler": "none", "optimizer": "adamw"},
    **{
        "model": "minilm",
        "data": "movie_snippets",
        "trainer": "default",
        "trainer.steps": 300,
        "nuisance": 0,
    },
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([{}], ["embeddings_attention-none-none"]),
        ([{}, {}], ["embeddings_attention-none-none"] * 2),
        ([{}, {"clip": "fixed", "clip.threshold": 1.0}], ["none", "fixed"]),
        (
            [{}, *({"clip": "delayed", "clip.start": start} for start in (50, 100))],
            ["none", "delayed[start=50]", "delayed[start=100]"],
        ),
        ([{}, {"clip": "delayed", "clip.start": 50}], ["none", "delayed"]),
        ([{}, {"clip": "fixed", "scheduler": "warmup_linear"}], ["none-none", "fixed-warmup_linear"]),
        ([{"trainer.steps": 300}, {"trainer.steps": 600.0}], ["default[steps=300]", "default[steps=600]"]),
        ([{"optimizer.lr": 2e-4}, {"optimizer.lr": 0.5}], ["adamw[lr=0.0002]", "adamw[lr=0.5]"]),
        (  # what most have is left out, but for the techniques
            [{"clip": "fixed"}, {}, {"optimizer.lr": 2e-4}],
            ["fixed", "none", "none-adamw[lr=0.0002]"],
        ),
        (  # ... and where that leaves nothing, the techniques stand for it
            [{"nuisance": 1}, {}, {"optimizer": "sgd"}],
            ["embeddings_attention-none-none-nuisance[seed=1]", "embeddings_attention-none-none", "sgd"],
        ),
        (
            [{"nuisance": 0}, {"nuisance": 1}],
            ["embeddings_attention-none-none", "embeddings_attention-none-none-nuisance[seed=1]"],
        ),
        (
            [{"clip": "none"}, {"clip": "fixed"}, {"clip": "fixed", "nuisance": 1}],
            ["none", "fixed", "fixed-nuisance[seed=1]"],
        ),
        (
            [{"clip.a": 1, "clip.b": 2}, {"clip.a": 1, "clip.b": None}, {"clip.a": 1}],
            ["none[b=2]", "none[b=null]", "none"],
        ),
        ([{"clip.b": None}, {}], ["none[b=null]", "none"]),
        ([{"clip": "my-rule"}, {"clip": "<b>"}], ["my-rule", "<b>"]),
    ],
)
def test_labels(changes, expected):
    assert labels([BASE | change for change in changes]) == expected


def test_labels_of_names_that_would_run_into_each_other():
    arms = [BASE | {"freeze": "a-b", "clip": "c"}, BASE | {"freeze": "a", "clip": "b-c"}]
    assert labels(arms) == ['[["a-b", {}], ["c", {}]]', '[["a", {}], ["b-c", {}]]']


def test_nothing_is_left_out_where_names_would_be_the_same():
    """A part of the optimizer and one of the data that read alike, each with the other left out."""
    plain = BASE | {"optimizer": "x", "data": "x"}
    arms = [
        plain,
        plain | {"clip": "fixed"},
        plain | {"clip": "delayed"},
        plain | {"optimizer": "y"},
        plain | {"data": "y"},
    ]
    assert labels(arms) == ["none-x-x", "fixed-x-x", "delayed-x-x", "none-y-x", "none-x-y"]


FACTORS = ("freeze", "clip", "scheduler", "optimizer", "model", "data", "trainer")
names = st.sampled_from(["none", "a", "a-b", "b", "b-c", "a[x=1]", "null", "1", "", "nuisance[seed=1]"])
values = st.one_of(names, st.integers(0, 1), st.sampled_from([0.0, 1.0, 0.5, None, True, False]))
keys = st.sampled_from([f"{factor}.{key}" for factor in FACTORS for key in ("x", "y")])


@st.composite
def an_arm(draw):
    options = {factor: draw(names) for factor in draw(st.sets(st.sampled_from(FACTORS)))}
    settings = draw(st.dictionaries(keys, values, max_size=4))
    return dict.fromkeys(FACTORS, "none") | options | settings | {"nuisance": draw(st.integers(0, 2))}


@given(st.lists(an_arm(), max_size=8))
def test_distinct_arms_have_distinct_labels_and_equal_ones_equal(arms):
    found = labels(arms)
    assert len(found) == len(arms)
    by_label = {label: canonical(arm) for arm, label in zip(arms, found, strict=True)}
    assert all(by_label[label] == canonical(arm) for arm, label in zip(arms, found, strict=True))
    assert len(by_label) == len({canonical(arm) for arm in arms})


@given(st.lists(an_arm(), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_labels_do_not_depend_on_the_order_of_arms(arms, draw):
    order = list(range(len(arms)))
    draw.shuffle(order)
    assert labels([arms[i] for i in order]) == [labels(arms)[i] for i in order]


def test_neighbours_stand_in_order_of_their_numbers():
    starts = [BASE, *(BASE | {"clip": "delayed", "clip.start": start} for start in (100, 50))]
    rates = [BASE | {"clip": "fixed", "optimizer.lr": lr} for lr in (8e-4, 1e-4, 2e-4)]
    again = BASE | {"clip": "delayed", "clip.start": 15}  # no neighbour of the others: begun after all
    arms = dict(zip("abcdefg", [*starts, *rates, again], strict=True))
    assert list(in_order(arms)) == ["a", "c", "b", "e", "f", "d", "g"]
    assert list(in_order({label: arms[label] for label in "bcd"})) == ["b", "c", "d"]  # the first stays


@given(st.lists(an_arm(), max_size=8))
def test_order_is_of_neighbours_alone(arms):
    before = {str(i): arm for i, arm in enumerate(arms)}
    after = in_order(before)
    options = [[arm[factor] for factor in FACTORS] for arm in before.values()]
    assert {label: before[label] for label in after} == before and [*after][:1] == [*before][:1]
    assert [[arm[factor] for factor in FACTORS] for arm in after.values()] == options
    assert [*in_order(after)] == [*after]


def test_equality_of_settings():
    assert canonical(1) == canonical(1.0)
    assert len({canonical(v) for v in (1, "1", True, None, "null", [1])}) == 6
