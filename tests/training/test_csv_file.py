"""The reading of a CSV file: finding, decompressing, decoding and cutting it into rows."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tracemalloc
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.host import memory
from tests.training.csv_data import AGES, load, make, refused
from training import data
from training.errors import DataError, SpecError
from training.input_spec import InputSpec

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("asked", "name", "write"),
    [
        pytest.param("a.csv", "a.csv", lambda c: c, id="as named"),
        pytest.param("a.csv", "A.CSV", lambda c: c, id="case"),
        pytest.param("a.csv", "A.csv.gz", gzip.compress, id="gz"),
        pytest.param("a.csv", "a.csv.xz", lzma.compress, id="xz"),
        pytest.param("a.csv", "a.csv.bz2", bz2.compress, id="bz2"),
        pytest.param("a.csv.gz", "a.csv.xz", lzma.compress, id="another suffix"),
        pytest.param("a.csv.gz", "a.csv", lambda c: c, id="no suffix"),
    ],
)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_case_and_compression_of_a_name_do_not_matter(
    asked: str, name: str, write: Any, elsewhere: bool, tmp_path: Path
) -> None:
    """A file is found beside the spec by its path, or in `--data` by its base name."""
    folder = tmp_path / ("other" if elsewhere else "data")
    folder.mkdir()
    (folder / name).write_bytes(write(AGES.encode()))
    spec = make(tmp_path, [InputSpec("a", f"data/{asked}")])

    loaded = data.load(spec, folder if elsewhere else None)

    assert loaded.sources[f"data/{asked}"].rows == 3
    assert folder / name == loaded.sources[f"data/{asked}"].path


def test_a_zip_holds_one_csv(tmp_path: Path) -> None:
    """A .zip is read if it holds exactly one CSV file."""
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
        archive.writestr("a.csv", AGES)
        archive.writestr("notes.txt", "x")
    spec = make(tmp_path, [InputSpec("a", "a.csv")])
    assert data.load(spec).sources["a.csv"].rows == 3

    with zipfile.ZipFile(tmp_path / "a.csv.zip", "a") as archive:
        archive.writestr("b.csv", AGES)
    with refused(DataError, "a.csv.zip: expected one .csv file inside, received a.csv, b.csv"):
        data.load(spec)


def test_of_two_candidates_the_exact_name_wins(tmp_path: Path) -> None:
    """An exact name wins; otherwise the message names both candidates."""
    (tmp_path / "A.csv").write_text(AGES, "utf-8")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(AGES.encode()))
    spec = make(tmp_path, [InputSpec("a", "a.csv")])

    with refused(SpecError, "inputs.a.csv: 'a.csv' could be A.csv and a.csv.gz in", "exactly"):
        data.load(spec)
    exact = make(tmp_path, [InputSpec("a", "A.csv")])
    assert tmp_path / "A.csv" == data.load(exact).sources["A.csv"].path


def test_an_absent_file_is_refused_with_the_present_ones(tmp_path: Path) -> None:
    """The message has the nearest name or all files, or the missing folder."""
    (tmp_path / "insurance.csv").write_text(AGES, "utf-8")

    with refused(
        SpecError, "spec.toml: inputs.a.csv: no file 'insurence.csv' in", "'insurance.csv'?"
    ):
        data.load(make(tmp_path, [InputSpec("a", "insurence.csv")]))
    with refused(SpecError, "no file 'zzz' in", "; CSV files there: insurance.csv"):
        data.load(make(tmp_path, [InputSpec("a", "zzz")]))
    with refused(SpecError, "no file 'zzz' in", "; --data has to hold every file of the spec"):
        data.load(make(tmp_path, [InputSpec("a", "zzz")]), tmp_path)
    with refused(SpecError, "inputs.a.csv: no folder", "nowhere' to read"):
        data.load(make(tmp_path, [InputSpec("a", "a.csv")]), tmp_path / "nowhere")


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2", ".zip"])
def test_a_damaged_archive_is_no_data(suffix: str, tmp_path: Path) -> None:
    """A file that does not match its suffix is refused with the reason."""
    (tmp_path / f"a.csv{suffix}").write_bytes(AGES.encode())

    with refused(DataError, f"a.csv{suffix}: cannot be read as a {suffix} file: "):
        data.load(make(tmp_path, [InputSpec("a", "a.csv")]))


def _zip(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", content)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    """An encrypted .zip is refused with the reason of `zipfile`."""
    path = tmp_path / "a.csv.zip"
    _zip(path, AGES.encode())
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    path.write_bytes(content)

    with refused(DataError, "a.csv.zip: cannot be read as a .zip file: ", "encrypted"):
        data.load(make(tmp_path, [InputSpec("a", "a.csv")]))


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        pytest.param(
            "city,y\nBern,0\nZürich,1\n".encode("latin-1"),
            ("a.csv: line 3: not UTF-8 (byte 0xfc, number 16 of the file); save it again",),
            id="Latin-1",
        ),
        pytest.param(
            "a,y\n1,0\n".encode("utf-16-le"),
            ("line 1: not text (byte 0x00, number 2 of the file); save it again as UTF-8",),
            id="UTF-16 without a mark",
        ),
        pytest.param("a,y\n1,0\n".encode("utf-16"), ("line 1: not UTF-8 (byte 0xff",), id="UTF-16"),
    ],
)  # fmt: skip
def test_another_encoding_is_refused(
    content: bytes, parts: tuple[str, ...], tmp_path: Path
) -> None:
    """Text that is not UTF-8 is refused with its line and byte."""
    (tmp_path / "a.csv").write_bytes(content)

    with refused(DataError, *parts):
        data.load(make(tmp_path, [InputSpec("a", "a.csv")]))


@pytest.mark.parametrize(
    ("text", "more", "parts"),
    [
        pytest.param(
            'age,y\n1,0\n"2,1\n3,1\n',
            {},
            ("a.csv: line 3: not CSV: ", "; nothing closes a quote that opens there"),
            id="open quote",
        ),
    ],
)  # fmt: skip
def test_a_quote_that_nothing_closes_is_refused(
    text: str, more: dict[str, Any], parts: tuple[str, ...], tmp_path: Path
) -> None:
    """The message names the line on which the quoted cell begins."""
    with refused(DataError, *parts):
        load(tmp_path, text, **more)


def test_a_cell_may_be_as_long_as_in_a_file_to_score(tmp_path: Path) -> None:
    """What a quoted cell may hold is no less than what a plain one may."""
    long = "z," * 100_000

    loaded = load(tmp_path, f'text,bought\n"{long}",0\nb,1\n"{long}",1\n')

    [feature] = loaded.inputs["a"].features
    assert feature.vocabulary == ("b", long)


COMPRESS: dict[str, Callable[[Path, bytes], Any]] = {
    ".gz": lambda path, content: path.write_bytes(gzip.compress(content)),
    ".xz": lambda path, content: path.write_bytes(lzma.compress(content)),
    ".bz2": lambda path, content: path.write_bytes(bz2.compress(content)),
    ".zip": _zip,
    "": Path.write_bytes,
}


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("what", ["long lines", "short lines"])
def test_a_file_that_inflates_past_the_free_memory_is_refused(
    suffix: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes are counted while they inflate, so that the whole content is never in memory."""
    path = tmp_path / f"a.csv{suffix}"
    COMPRESS[suffix](path, {"long lines": b"0", "short lines": b"\n"}[what] * (64 << 20))
    free = 32 << 20
    monkeypatch.setattr(memory, "available", lambda: free)

    tracemalloc.start()
    try:
        with refused(DataError, f"a.csv{suffix}: too large: its first "):
            data.load(make(tmp_path, [InputSpec("a", "a.csv")]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < free
