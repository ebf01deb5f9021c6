"""The schema accepts the claims files of the package, refuses what the reader refuses, and is up to date."""

import json

import jsonschema
import pytest
import yaml

from analysis.claims.schema import schema
from tests.analysis.studies import MINIMAL
from tests.tools import ROOT

FILES = sorted((ROOT / "conf/claims").glob("*.yaml"))


def test_the_file_is_what_the_code_says():
    assert json.loads((ROOT / "conf/claims/schema.json").read_text()) == schema()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_our_files_are_valid_and_name_it(path):
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    jsonschema.validate(yaml.load(text.replace("1e", "1.0e+"), yaml.SafeLoader), schema())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seeds: 10", "seeds: 0"),
        ("seeds: 10", "seed: 10"),
        ("seeds: 10", "seeds: 10\nlooks: never"),
        ("points", "percent"),
        ("direction: above", "direction: up"),
        ("test_accuracy", "accuracy"),
        ("direction: above", "direction: above\n    smallest_effect: 3"),
    ],
)
def test_mistakes_are_marked(old, new):
    jsonschema.validate(yaml.safe_load(MINIMAL), schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(MINIMAL.replace(old, new)), schema())
