"""Readers of data files: as many rows out as in, for each format, or an error that names the file and the line."""

import bz2
import csv
import gzip
import io
import json
import lzma
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ablate.data.file_bytes import MAX_BYTES
from ablate.data.readers import read_files
from ablate.data.row_checks import FileError

FORMATS = ("csv", "tsv", "tab", "jsonl", "ndjson", "json", "parquet", "arrow")
TEXT_FORMATS = FORMATS[:6]
GOOD = [(f"review {i}", i % 2) for i in range(6)]


def written(rows, suffix: str, **how) -> bytes:
    """A file's bytes as the usual writers of its format write them."""
    columns = [{"text": t, "label": y} for t, y in rows]
    out = io.StringIO(newline="")
    sink = io.BytesIO()
    match suffix.lower():
        case "csv" | "tsv" | "tab":
            table = csv.writer(out, delimiter="," if suffix.lower() == "csv" else "\t", **how)
            table.writerows([("text", "label"), *rows])
        case "jsonl" | "ndjson":
            out.writelines(json.dumps(row) + "\n" for row in columns)
        case "json":
            json.dump(columns, out, **how)
        case "parquet":
            pq.write_table(pa.Table.from_pylist(columns), sink)
        case "arrow":
            table = pa.Table.from_pylist(columns)
            with pa.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
    return sink.getvalue() or out.getvalue().encode()


def saved(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows_in(path: Path) -> list[tuple[str, int]]:
    texts = read_files([path], "text", "label")
    return list(zip(texts.text, texts.label, strict=True))


def refused(path: Path) -> str:
    with pytest.raises(FileError) as error:
        rows_in(path)
    assert str(path) in str(error.value) and len(str(error.value)) < 700
    return str(error.value)


# --- rows in = rows out ---

tricky = st.text(st.sampled_from("ab01\"\t\n,\\ 'é{}[]"), min_size=1, max_size=12).filter(str.strip)
tables = st.lists(st.tuples(tricky, st.integers(0, 2)), min_size=1, max_size=8)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "parquet"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=tables)
def test_rows_in_are_rows_out(tmp_path, suffix, rows):
    # A quoted text of TSV that contains a tab and a line end can consist of lines that are rows with plain quotes
    assume(suffix != "tsv" or not any("\t" in text and "\n" in text for text, _ in rows))
    path = saved(tmp_path / f"train.{suffix}", written(rows, suffix))
    try:
        assert rows_in(path) == rows
    except FileError as error:  # only quotes are ambiguous
        assert suffix in ("csv", "tsv") and "quote" in str(error)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(st.text('ab" ', min_size=1).filter(str.strip), st.integers(0, 1)), min_size=1))
def test_tsv_without_quoting_keeps_its_rows(tmp_path, rows):
    """Quotes are plain characters. Where the file may also be quoted, it is refused or loses quotes, but no row."""
    path = saved(tmp_path / "train.tsv", "text\tlabel\n" + "".join(f"{t}\t{y}\n" for t, y in rows))
    try:
        assert [label for _, label in rows_in(path)] == [label for _, label in rows]
    except FileError as error:
        assert "quote" in str(error) or "must not be empty" in str(error)


# --- quotes ---


def tsv(*texts: str) -> str:
    return "text\tlabel\n" + "".join(f"{text}\t{i % 2}\n" for i, text in enumerate(texts))


def test_quotes_of_tsv_do_not_merge_rows(tmp_path):
    """As in GLUE: one text begins with a quote, a later one ends with one."""
    texts = ["fine", '"dull, he said', "good", "bad", 'she said "no"', 'it was "great"', "fine"]
    path = saved(tmp_path / "a.tsv", tsv(*texts))
    assert [text for text, _ in rows_in(path)] == texts
    lone = saved(tmp_path / "b.tsv", tsv("fine", '"dull', "good"))
    assert [text for text, _ in rows_in(lone)] == ["fine", '"dull', "good"]
    texts = ["fine", '"dull, he said', "good", 'bad, she said"', "fine"]  # the quotes could enclose three rows
    assert [text for text, _ in rows_in(saved(tmp_path / "c.tsv", tsv(*texts)))] == texts


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_quoted_tsv(tmp_path, quoting):
    rows = [("a\tb", 0), ('say "x"', 1), ("two\nlines", 0), ("plain", 1)]
    for count in (1, 2, 3, 4):
        path = saved(tmp_path / f"{count}.tsv", written(rows[:count], "tsv", quoting=quoting))
        assert rows_in(path) == rows[:count]


def test_quotes_of_tsv_that_nothing_decides_are_refused(tmp_path):
    message = refused(saved(tmp_path / "a.tsv", tsv("fine", '"Great film"', "good")))
    assert "line 3: '\"Great film\"' must be either a quoted text or a text with quotes" in message
    assert "no sign of either" in message and "save the file as CSV or JSON lines" in message
    assert "signs of both" in refused(saved(tmp_path / "b.tsv", tsv('"a ""b"""', 'say "x"')))
    texts = ['"Great film"', 'say "x"']  # no writer that quotes leaves the second as it is
    assert [text for text, _ in rows_in(saved(tmp_path / "c.tsv", tsv(*texts)))] == texts


def test_broken_tsv_with_quotes_says_what_is_wrong_either_way(tmp_path):
    message = refused(saved(tmp_path / "a.tsv", tsv("fine", '"dull', "one\ttoo many")))
    assert "Is a quote not closed?" in message
    assert "If quotes are plain characters in this file, line 4 must have 2 fields" in message


def test_quotes_of_csv_must_not_merge_rows(tmp_path):
    path = saved(tmp_path / "a.csv", 'text,label\nfine,0\n"dull,1\ngood,0\nsaid no",1\nbad,0\n')
    assert "line 3: a quote must not merge rows" in refused(path)
    path = saved(tmp_path / "b.csv", 'text,label\nfine,0\n"dull, very\n\ndull, and so on\nsaid no",1\nbad,0\n')
    assert rows_in(path)[1] == ("dull, very\n\ndull, and so on\nsaid no", 1)


# --- columns and types ---


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "parquet", "arrow"])
@pytest.mark.parametrize("twice", ["text", "label"])
def test_column_twice(tmp_path, suffix, twice):
    path, sink = tmp_path / f"train.{suffix}", io.BytesIO()
    table = pa.table([["a", "b"], [0, 1], ["c", "d"]], names=["text", "label", twice])
    match suffix:
        case "csv" | "tsv":
            separator = "," if suffix == "csv" else "\t"
            sink.write("".join(separator.join(r) + "\n" for r in (("text", "label", twice), "a0c", "b1d")).encode())
        case "parquet":
            pq.write_table(table, sink)
        case "arrow":
            with pa.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
        case _:
            row = f'{{"text": "a", "label": 0, "{twice}": "c"}}'
            sink.write((f"[{row}]" if suffix == "json" else row).encode())
    message = refused(saved(path, sink.getvalue()))
    assert any(
        words in message for words in (f"'{twice}'", f'Field "{twice}" exists 2 times', f"FieldRef.Name({twice})")
    )


def test_other_columns_may_occur_twice(tmp_path):
    path = saved(tmp_path / "a.csv", "note,text,note,label\nx,a,y,0\nx,b,y,1\n")
    assert rows_in(path) == [("a", 0), ("b", 1)]


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
@pytest.mark.parametrize("odd", [7, None, ["x"], {"x": 1}, True])
def test_one_odd_value_is_an_error_of_its_row(tmp_path, suffix, odd):
    path = saved(tmp_path / f"a.{suffix}", written([*GOOD[:2], (odd, 0), *GOOD[3:]], suffix))
    assert f"row 3: the text must be a string (got {odd!r})" in refused(path)
    path = saved(tmp_path / f"b.{suffix}", written([*GOOD[:2], ("x", 0.5), *GOOD[3:]], suffix))
    assert "row 3: the label must be a whole number 0..k-1 (got 0.5)" in refused(path)


@pytest.mark.parametrize("how", [{}, {"indent": 2}, {"separators": (",", ":")}])
def test_json_arrays(tmp_path, how):
    rows = [("x" * 300_000, 0), *GOOD, ("é" * 300_000, 1), ('{"]', 0)]  # larger than a chunk
    assert rows_in(saved(tmp_path / "a.json", b"\xef\xbb\xbf" + written(rows, "json", **how))) == rows
    assert rows_in(saved(tmp_path / "b.json", written(rows, "jsonl"))) == rows


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"text": "a", "label": 0}, {"text": "b", "label": 1}', "row 3 must start with one of , ] (the file ends"),
        ('[{"text": "a", "label": 0} {"text": "b", "label": 1}]', "row 2 must start with one of , ] (got "),
        ('[{"text": "a", "label": 0}, {"text": "b", "label": ]', "row 2 must be JSON"),
        ('[{"text": "a", "label": 0}, {"text": "b"}]', "row 2 must have the keys"),
        ('[{"text": "a", "label": 0}] x', "row 2 must start with one of"),
        ('{"data": [{"text": "a", "label": 0}]}', "row 1 must have the keys"),
        ("[" * 100_000, "row 1 must start with one of { ]"),
        ('{"a":' * 100_000, "row 1 must be JSON"),
        (b'[{"text": "\xe9", "label": 0}]', "must be UTF-8"),
    ],
)
def test_broken_json(tmp_path, content, expected):
    assert expected in refused(saved(tmp_path / "a.json", content))


# --- names ---


@pytest.mark.parametrize("suffix", FORMATS)
def test_file_named_without_a_folder(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    assert rows_in(saved(Path(f"train.{suffix}"), written(GOOD, suffix))) == GOOD


@pytest.mark.parametrize("suffix", FORMATS)
def test_endings_in_capitals(tmp_path, suffix):
    assert rows_in(saved(tmp_path / f"TRAIN.{suffix.upper()}", written(GOOD, suffix))) == GOOD


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def packed(content: bytes, packing: str, folder: Path) -> bytes:
    if packing in PACKERS:
        return PACKERS[packing](content)
    with pa.CompressedOutputStream(str(folder / "packed"), {"zst": "zstd"}.get(packing, packing)) as stream:
        stream.write(content)
    return (folder / "packed").read_bytes()


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz", "zst", "lz4"])
@pytest.mark.parametrize("suffix", TEXT_FORMATS)
def test_compressions(tmp_path, suffix, packing):
    content = packed(written(GOOD, suffix), packing, tmp_path)
    assert rows_in(saved(tmp_path / f"train.{suffix}.{packing}", content)) == GOOD
    assert rows_in(saved(tmp_path / f"TRAIN.{suffix}.{packing}".upper(), content)) == GOOD


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz", "zst", "lz4"])
def test_broken_compression(tmp_path, packing):
    content = packed(written(GOOD, "csv"), packing, tmp_path)
    path = tmp_path / f"train.csv.{packing}"
    assert f".{packing} cannot be unpacked" in refused(saved(path, content[:-3]))
    assert f".{packing} cannot be unpacked" in refused(saved(path, written(GOOD, "csv")))


def test_other_compressions_are_refused(tmp_path):
    assert "must be unpacked" in refused(saved(tmp_path / "a.parquet.gz", gzip.compress(written(GOOD, "parquet"))))
    message = refused(saved(tmp_path / "a.csv.zip", written(GOOD, "csv")))
    assert "Its name must end with .csv" in message


def test_compression_whose_library_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bz2", None)
    path = saved(tmp_path / "a.csv.bz2", bz2.compress(written(GOOD, "csv")))
    assert "cannot be unpacked: import of bz2 halted" in refused(path)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_line_ends_of_old_macs(tmp_path, suffix):
    content = written(GOOD, suffix).replace(b"\r\n", b"\n").replace(b"\n", b"\r")
    assert "line ends are CR" in refused(saved(tmp_path / f"a.{suffix}", content))


# --- sizes ---


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json"])
def test_endless_line_is_refused_before_it_fills_the_memory(tmp_path, suffix):
    """300 MB in 300 kB: refused after 16 MiB. In a separate process, because the peak of a process never falls."""
    starts = {"json": '[{"text": "', "jsonl": '{"text": "', "csv": "text,label\n", "tsv": "text\tlabel\n"}
    path = tmp_path / f"a.{suffix}.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(starts[suffix].encode())
        for _ in range(20):
            file.write(b"x" * 15_000_000)
    code = (
        "import resource, sys; from pathlib import Path; from ablate.data.readers import read_files; "
        "from ablate.data.row_checks import FileError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: read_files([Path(sys.argv[1])], 'text', 'label')\n"
        "except FileError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    message, kilobytes = done.stdout.splitlines()[-2:]
    assert f"at most {MAX_BYTES:,} bytes" in message
    assert int(kilobytes) < 150_000
