"""A sweep whose study was packed into one file finds its runs there."""

import shutil
from pathlib import Path

import pytest

from ablate.run.job import Job, job
from ablate.sweep.callback import with_archived_runs
from analysis.records.packing import pack_study
from tests.tools import compose_config


def test_a_job_finds_its_run_in_the_archive_under_the_name_that_it_has_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = compose_config("model=tiny", "data=synthetic", "study=reference/mine")
    choices = {key: str(value) for key, value in config.hydra.runtime.choices.items()}
    work = job(config, choices)
    archived = Path(f"outputs/reference/mine/older_name-{work.id}")
    archived.mkdir(parents=True)
    (archived / "run.json").write_text("{}")
    pack_study(archived.parent)
    assert with_archived_runs([work]) == [work]  # the folder has it
    shutil.rmtree(archived)
    new = Job(work.config, work.choices)
    assert new.folder.name == f"model=tiny-data=synthetic-s0-{work.id}"
    (found,) = with_archived_runs([new])
    assert found.folder == archived and (archived / "run.json").is_file()
