"""Files of tables: whatever their kind, they hold what the plain CSV file holds, or one line says what is wrong."""

import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

from keras_ext import tables
from keras_ext._checks import BadInput
from keras_ext.commands.source import Source
from keras_ext.tables.data.table_file import columns_for, load_csv

AGES = [0.3, *range(1, 38), None, 39.5]
TOWNS = ["Köln", "Oslo", "", "São Paulo"] * 10
CODES = ["0150", "0151"] * 20
FRAME = pd.DataFrame({"age": AGES, "town": TOWNS, "code": CODES, "paid": [True, False] * 20, "kind": ["a", "b"] * 20})
CATEGORIES = ["code"]


def same(path, **arguments):
    """Return whether a file holds the values of the plain CSV file."""
    FRAME.to_csv(path.parent / "plain.csv", index=False)
    plain = load_csv(path.parent / "plain.csv", categories=CATEGORIES, **arguments)
    assert plain.inputs == "4 inputs (1 of numbers, 3 of text) with 1 gap"
    assert plain.x["code"].tolist() == CODES
    # As the commands read it.
    table = Source(str(path), categories=",".join(CATEGORIES)).table()
    assert table.x["town"].tolist() == TOWNS
    return table.fingerprint == plain.fingerprint


def refused(path, **arguments):
    with pytest.raises(BadInput) as raised:
        load_csv(path, **arguments)
    reported = str(raised.value)
    assert reported.startswith(f"{path}: ")
    assert "\n" not in reported
    return reported.removeprefix(f"{path}: ")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["data.csv", "data.tsv"])
def test_any_separator_will_do(tmp_path, separator, name):
    FRAME.to_csv(tmp_path / name, sep=separator, index=False)
    assert same(tmp_path / name)
    # In a name in quotes they separate nothing.
    frame = FRAME.rename(columns={"age": 9 * ",;\t|".replace(separator, "") + "age"})
    frame.to_csv(tmp_path / name, sep=separator, index=False, quoting=1)
    assert list(load_csv(tmp_path / name).x) == list(frame)[:-1]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_numbers_may_have_a_decimal_comma(tmp_path, separator):
    FRAME.to_csv(tmp_path / "data.csv", sep=separator, decimal=",", index=False)
    assert "39,5" in (tmp_path / "data.csv").read_text(encoding="utf-8")
    assert same(tmp_path / "data.csv")


def test_a_comma_that_may_be_between_thousands_is_refused_where_a_semicolon_does_not_decide(tmp_path):
    def written(separator, *cells):
        pd.DataFrame({"size": [*cells] * 10, "y": ["a", "b"] * (5 * len(cells))}).to_csv(tmp_path / "data.csv", sep=separator, index=False)
        return tmp_path / "data.csv"

    assert load_csv(written(";", "1,250", "-3,5E+2")).x["size"].tolist() == [1.25, -350] * 10
    assert load_csv(written(";", "1,250", "12,000")).x["size"].tolist() == [1.25, 12] * 10
    assert load_csv(written("\t", "1,250", "0,5")).x["size"].tolist() == [1.25, 0.5] * 10
    begin = 'column "size" holds numbers with signs ("1'
    assert refused(written("\t", "1,250", "12,000")).startswith(begin)
    assert refused(written(";", "1.250,5", "1.251,5")).startswith(begin)
    # A point is the decimal sign of this column, so that the comma is none.
    assert refused(written(";", "1,250", "1,5", "2.5")).startswith(begin)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le"])
def test_letters_are_those_of_their_encoding(tmp_path, encoding):
    text = FRAME.to_csv(index=False)
    (tmp_path / "data.csv").write_bytes((b"\xff\xfe" if encoding == "utf-16-le" else b"") + text.encode(encoding))
    assert same(tmp_path / "data.csv")


@pytest.mark.parametrize("ending", [".csv.gz", ".csv.bz2", ".csv.xz", ".csv.zip", ".TSV.GZ"])
def test_compressed_files_are_read(tmp_path, ending):
    FRAME.to_csv(tmp_path / f"data{ending}", index=False, compression={"method": ending.lower().rpartition(".")[2].replace("gz", "gzip")})
    with pytest.raises(UnicodeDecodeError):
        (tmp_path / f"data{ending}").read_text(encoding="utf-8")
    assert same(tmp_path / f"data{ending}")


def test_parquet_and_excel_hold_the_same_as_csv(tmp_path):
    FRAME.to_parquet(tmp_path / "data.parquet")
    assert same(tmp_path / "data.parquet")
    # A table that pandas has an index for, types with gaps of their own, and numbers that name categories.
    frame = FRAME.assign(age=FRAME["age"].astype("Float64"), code=range(150, 190), town=FRAME["town"].astype("category"))
    frame.set_index("age").to_parquet(tmp_path / "data.parquet")
    table = load_csv(tmp_path / "data.parquet", target="kind")
    assert list(table.x) == ["age", "town", "code", "paid"]
    assert table.inputs == "4 inputs (2 of numbers, 2 of text) with 1 gap"
    FRAME.to_excel(tmp_path / "data.xlsx", index=False)
    assert same(tmp_path / "data.xlsx")


def test_numbers_of_parquet_name_categories_where_it_is_asked_for(tmp_path):
    pd.DataFrame({"code": [4.0, None] * 10, "size": [7, 8] * 10, "y": ["a", "b"] * 10}).to_parquet(tmp_path / "data.parquet")
    table = load_csv(tmp_path / "data.parquet", categories=["code", "size"])
    assert table.x["code"].tolist() == ["4", ""] * 10
    assert table.x["size"].tolist() == ["7", "8"] * 10


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_numbers_keep_every_digit(tmp_path, ending):
    numbers = np.random.default_rng(0).normal(size=265) * 10.0 ** np.arange(-250, 15)
    frame = pd.DataFrame({"size": numbers, "y": ["a", "b", "c", "d", "e"] * 53})
    (frame.to_parquet if ending == ".parquet" else frame.to_csv)(tmp_path / f"data{ending}", index=False)
    assert load_csv(tmp_path / f"data{ending}").x["size"].tolist() == numbers.tolist()


@pytest.mark.parametrize(("ending", "row"), [(".parquet", "row 4"), (".xlsx", "row 5")])
def test_what_is_wrong_is_found_by_its_row(tmp_path, ending, row):
    def written(**columns):
        frame = pd.DataFrame({**columns, "y": ["a", "b"] * 10})
        frame.to_parquet(tmp_path / "data.parquet") if ending == ".parquet" else frame.to_excel(tmp_path / "data.xlsx", index=False)
        return tmp_path / f"data{ending}"

    sizes = ["1", "2", "3", "red", *map(str, range(16))]
    assert refused(written(size=sizes)) == f'column "size" holds numbers, but text in {row} ("red"): fix or remove that row.'
    gap = [1.5, 2.5, 3.5, None, *range(16)]
    assert (
        refused(written(size=gap), target="size") == f'column "size", the target, has no value in {row} (empty): fill or remove that row.'
    )
    days = pd.date_range("2024-01-01", periods=20)
    assert (load_csv(written(day=days)).x["day"] == days.to_numpy()).all()


@pytest.mark.parametrize(("ending", "library", "extra"), [(".parquet", "pyarrow", "parquet"), (".xlsx", "openpyxl", "excel")])
def test_a_library_that_is_missing_is_named_with_its_extra(tmp_path, monkeypatch, ending, library, extra):
    (tmp_path / f"data{ending}").write_bytes(b"")
    monkeypatch.setitem(sys.modules, library, None)
    assert refused(tmp_path / f"data{ending}") == f'needs {library}, which the extra "{extra}" brings. Install it: pip install {library}'


def test_what_is_none_of_its_kind_is_refused(tmp_path):
    good = FRAME.to_csv(index=False).encode()
    with zipfile.ZipFile(tmp_path / "two.csv.zip", "w") as file:
        file.writestr("a.csv", good)
        file.writestr("b.csv", good)
    FRAME.to_csv(tmp_path / "whole.csv.gz", index=False)
    for name, content, kind in (
        ("cut.csv.gz", (tmp_path / "whole.csv.gz").read_bytes()[:-20], "CSV text file in UTF-8, UTF-16 or cp1252"),
        ("plain.csv.gz", good, "CSV text file"),
        ("plain.csv.xz", good, "CSV text file"),
        ("two.csv.zip", None, "CSV text file"),
        ("binary.csv", bytes(range(256)), "CSV text file"),
        ("quote.csv", good.replace(b"Oslo", b'"Oslo', 1), "CSV text file"),
        ("data.parquet", good, ".parquet file"),
        ("data.xlsx", good, ".xlsx file"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        reported = refused(tmp_path / name)
        assert reported.startswith(f"not a {kind}"), reported
        assert reported.endswith("Save it again as CSV UTF-8.")


def test_lines_are_counted_as_in_the_file_and_none_is_short(tmp_path):
    def written(text):
        (tmp_path / "data.csv").write_text(text)
        return tmp_path / "data.csv"

    rows = "".join(f"{i},{i % 3},{'ab'[i % 2]}\n" for i in range(20))
    assert len(load_csv(written("a,b,c\n\n" + rows + "\n\n"))) == 20
    assert refused(written("a,b,c\n\n" + rows.replace("\n7,", "\n\nred,"))) == (
        'column "a" holds numbers, but text in line 11 ("red"): fix or remove that line.'
    )
    assert refused(written("a,b,c\n\n" + rows.replace("7,1,b", "7,1"))) == "line 10 has 2 values, the header 3 names. Fix that line."
    assert refused(written("a,b,c\n" + rows + "20,1,a,3\n")) == "line 22 has 4 values, the header 3 names. Fix that line."
    # An empty last cell makes no line short.
    assert load_csv(written("a,c,b\n" + rows.replace(",b\n", ",\n")), "c").x["b"].tolist() == ["a", ""] * 10


@pytest.mark.parametrize("ending", [".csv.gz", ".parquet", ".xlsx"])
def test_a_model_finds_its_columns_in_every_kind(tmp_path, ending):
    features = tables.TableFeatures()
    features.adapt({"age": [20.0, 60.0], "town": ["Bonn", "Köln"]})
    new = pd.DataFrame({"town": ["Köln", "Rome"], "more": [1, 2], "age": [40, None]})
    path = tmp_path / f"new{ending}"
    {".parquet": new.to_parquet, ".xlsx": new.to_excel}.get(ending, new.to_csv)(path, index=False)
    columns = columns_for(path, features)
    assert features.encode(columns).tolist() == [[0, 1], [0, -1]]
    first = {".csv.gz": ("line", 2), ".parquet": ("row", 1), ".xlsx": ("row", 2)}[ending]
    assert (columns.index.name, columns.index[0]) == first
