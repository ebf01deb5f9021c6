"""What is judged, by which claims, and its report: the same for `python -m analysis` and for `ablate.api`."""

from collections.abc import Sequence
from pathlib import Path

from ablate.config.checks import refusal
from ablate.config.paths import KEPT_CLAIMS, claims_file
from ablate.config.wording import count
from ablate.files.reading import read_regular
from ablate.files.run_record import RUN_JSON
from analysis.claims.judge import judge_claims
from analysis.claims.looks import read_looks
from analysis.claims.reading import AUTO, Claims, for_study, read_claims
from analysis.records.source import StudyFolder, archive_of, possible_runs
from analysis.records.study import Study, load
from analysis.report import PAGE, Report, write_report
from analysis.result_tables import INFERRED, TableOptions, is_result_path, load_results


def chosen_claims(study: Study, chosen: str | None) -> Path:
    """The claims file that --claims chooses: an existing file, or else a name; by default the runs' own."""
    if chosen is None:
        return named_claims(study) if study.table is None else claims_file(AUTO)
    if Path(chosen).is_file() or Path(chosen).name != chosen or Path(chosen).suffix:
        return Path(chosen)
    kept = None if Path(f"conf/claims/{chosen}.yaml").is_file() else own_claims(study, chosen)
    return kept or claims_file(chosen)


def named_claims(study: Study) -> Path:
    """The claims file that the study's runs name, the study's own copy first: its runs were started with that.

    Raises ValueError unless they name one file that exists.
    """
    names = sorted(set(study.runs["claims.name"].dropna())) if "claims.name" in study.runs else []
    if len(names) != 1:
        what = f"{len(names)} claims files ({', '.join(names)})" if names else "no claims file"
        raise ValueError(f"the runs must name one claims file, but they name {what}; choose one with --claims FILE")
    if kept := own_claims(study, Path(names[0]).name):
        return kept
    try:
        return claims_file(names[0])
    except ValueError as error:
        raise ValueError(
            f"the claims file that the runs name is missing: {error} (--claims FILE chooses another)"
        ) from error


def own_claims(study: Study, name: str) -> Path | None:
    """The study's own copy of a claims file, <archive>.zip/.claims/<name>.yaml in an archive; None if it has none."""
    kept = f"{KEPT_CLAIMS}/{name}.yaml"
    return study.source.path / kept if study.source.has(kept) else None


def read_claims_for(study: Study, path: Path, allow: Sequence[str] = ()) -> Claims:
    """A claims file, which may be a study's own copy in its archive, for the study. Raises ValueError.

    allow: modules of the user's own whose functions may be metrics.
    """
    source = study.source

    def read(path: Path) -> bytes:
        inside = path.is_relative_to(source.path)
        return source.read(path.relative_to(source.path).as_posix()) if inside else read_regular(path)

    return for_study(read_claims(path, allow, read, study.table), study)


def load_chosen(path: Path, options: TableOptions = INFERRED, output: Path | None = None) -> Study:
    """Load a study, or a table of results. Raises ValueError where it cannot be used.

    options: for tables only; output: the folder for the report of an archive or a table.
    """
    if is_result_path(path):
        return load_results(path, options, output)
    options.refuse()
    return load_finished(path, output)


def load_finished(path: Path, output: Path | None = None) -> Study:
    """Load a study; ValueError if no run of it is finished."""
    study = load(path, output=output)
    if study.runs.empty:
        packed = archive_of(path)
        remedy = f"; its archive is {packed}" if packed.is_file() else ""
        raise ValueError(f"{path} has no finished run; {count(len(study.problems), 'folder')} cannot be used{remedy}")
    return study


def check_output(study: Study) -> None:
    """Raise ValueError if the folder for the report has runs of its own, or is not that of a study in a folder."""
    source, folder = study.source, StudyFolder(study.folder)
    if isinstance(source, StudyFolder) and study.folder != source.path:
        raise refusal("--output", study.folder, "left out for a folder, which holds its report and log of looks itself")
    if source.path == study.folder or not study.folder.is_dir():
        return
    for run in possible_runs(folder):
        record = f"{run}/{RUN_JSON}"
        if folder.has(record) and not (source.has(record) and source.read(record) == folder.read(record)):
            raise ValueError(
                f"{study.folder} must not have runs that {source.path} lacks, as the report would replace theirs (it "
                f"has {run}): choose another folder with --output"
            )


def written_report(study: Study, claims: Claims, peek: bool) -> tuple[Report, str]:
    """Write the report; return it, and a line on where it is, or on why it could not be written."""
    try:
        return write_report(study, claims, peek), f"report: {study.folder / 'report' / PAGE}"
    except OSError as error:
        judgement = judge_claims(study, claims, read_looks(study.folder, study.source))
        return Report(judgement.findings, (), is_new=False), f"no report could be written: {error}"
