"""Columns of a CSV file: numbers, categories, and what is neither."""

import numpy as np
import pandas as pd
import pytest

from keras_ext._checks import BadInput
from keras_ext.tables import TableFeatures, load_frame, make_table
from keras_ext.tables.data.columns import numbers
from keras_ext.tables.data.table_file import columns_for, load_csv, matrix_of

TOWNS = ["Bonn", "Oslo", "", "Rome"] * 10


def csv_file(folder, **columns):
    path = folder / "data.csv"
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join(",".join(map(str, row)) for row in [list(columns), *rows]) + "\n", encoding="utf-8")
    return path


def people(folder, **more):
    return csv_file(folder, age=range(40), town=TOWNS, **more, kind=["a", "b"] * 20)


def test_text_names_categories_and_an_empty_cell_is_one(tmp_path):
    table = load_csv(people(tmp_path))
    assert table.inputs == "2 inputs (1 of numbers, 1 of text)"
    assert table.x["age"].dtype == "float64"
    assert table.x["age"].tolist() == list(range(40))
    assert table.x["town"].tolist() == TOWNS
    assert len(table) == 40


def test_numbers_name_categories_where_it_is_asked_for(tmp_path):
    path = people(tmp_path, code=[53111, 28203] * 20)
    assert load_csv(path).x["code"].dtype == "float64"
    assert load_csv(path, categories=["code"]).x["code"].tolist() == ["53111", "28203"] * 20


@pytest.mark.parametrize(
    "cell",
    ["2024-01-31", "2024-01", "2024-01-31 10:15", "2024-01-31T10:15:00Z",
     "2024/1/31", "31.1.2024", "1/31/24", "1/31/2024 10:15", "10:15", "9:05 PM",
     "31 Jan 2024", "January 31, 2024", "31-Jan-24", "Mon, 31 Jan 2024", "2024-01-31T10:15:30.5+02:00"],
)  # fmt: skip
def test_dates_and_times_are_read(tmp_path, cell):
    table = load_csv(people(tmp_path, day=[f'"{cell}"'] * 39 + [""]))
    assert table.inputs == "3 inputs (1 of numbers, 1 of text, 1 of dates) with 1 gap"
    read = pd.Timestamp(table.x["day"][0])
    # Without a day it is the first; without a date, the first that NumPy knows.
    time = (10, 15) if "10:15" in cell else (21, 5) if "PM" in cell else (0, 0)
    time = (8, 15) if "+02" in cell else time
    day = (1970, 1, 1) if ":" in cell and len(cell) < 8 else (2024, 1, 1) if cell == "2024-01" else (2024, 1, 31)
    assert (read.year, read.month, read.day, read.hour, read.minute) == (*day, *time)


@pytest.mark.parametrize("cell", ["3-4", "12/7", "B-12-14", "10:1:1:1", "1.2.3.4", "1.2.3", "Mai", "May", "Mon", "12h", "5 m", "4000-123"])
def test_other_text_is_no_date(tmp_path, cell):
    assert load_csv(people(tmp_path, code=[cell] * 40)).x["code"].tolist() == [cell] * 40


def test_a_column_with_dates_and_other_text_names_categories(tmp_path):
    for other in ("other", "Size 2024"):
        assert load_csv(people(tmp_path, code=["2024-01-31", other] * 20)).x["code"].dtype.kind == "U"


def test_names_and_free_text_are_left_out_with_one_line_unless_they_are_wanted(tmp_path):
    path = people(tmp_path, name=[f"Ada {i}" for i in range(40)], motto=[f"word {i} of {i % 3}" for i in range(40)])
    table = load_csv(path)
    assert list(table.x) == ["age", "town"]
    assert table.notes == (
        'left out: "name", names or free text: 40 different texts in 40 lines; "motto", names or free text: 40 different texts in 40 lines '
        "(--columns A,B chooses the columns)",
    )
    wanted = load_csv(path, columns=["name", "age"])
    assert list(wanted.x) == ["name", "age"]
    assert wanted.x["name"][3] == "Ada 3"
    assert wanted.notes == ()
    for columns, message in ((["nome"], 'no column "nome". Name one of'), (["kind"], 'column "kind" is the target, not an input.')):
        with pytest.raises(BadInput, match=message):
            load_csv(path, columns=columns)
    with pytest.raises(BadInput, match=r'no column says something of new samples\. Left out: "name"'):
        load_csv(csv_file(tmp_path, name=[f"Ada {i}" for i in range(40)], kind=["a", "b"] * 20))
    assert len(set(load_csv(people(tmp_path, name=[f"Ada {i % 20}" for i in range(40)])).x["name"])) == 20


def test_a_column_is_of_numbers_if_more_than_half_of_it_are(tmp_path):
    with pytest.raises(BadInput, match='column "size" holds numbers, but text in line 2 \\("big"\\) and 18 more'):
        load_csv(people(tmp_path, size=["big"] * 19 + list(range(21))))
    assert load_csv(people(tmp_path, size=["big"] * 20 + [1, 2] * 10)).x["size"].dtype.kind == "U"


@pytest.mark.parametrize("cell", ["45%", "1,250", "1,250.50", "$99", "12.5 €", "1 250 000", "0,75"])
def test_numbers_with_signs_are_refused(tmp_path, cell):
    rows = [f'"{cell}"'] * 21 + ["", "none", *["7"] * 17]
    for arguments in ({}, {"target": "share"}):
        with pytest.raises(BadInput) as raised:
            load_csv(people(tmp_path, share=[f'"{cell}"'] * 40 if arguments else rows), **arguments)
        assert f'column "share" holds numbers with signs ("{cell}"). Write them plainly' in str(raised.value)
    assert load_csv(people(tmp_path, share=rows), categories=["share"]).x["share"][0] == cell


def test_whole_numbers_name_the_same_category_however_they_are_written(tmp_path):
    codes = ["4", "4.0", "5", "04"] * 10
    assert load_csv(people(tmp_path, code=codes), categories=["code"]).x["code"].tolist() == ["4", "4", "5", "04"] * 10
    table = load_csv(people(tmp_path, code=codes), target="code")
    assert table.classes == ("4", "5")


GAPS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "#N/A", "<NA>"]


def test_gaps_among_numbers_are_nan_and_counted(tmp_path):
    table = load_csv(people(tmp_path, size=[*GAPS, *range(31)]))
    assert table.x["size"].dtype == "float64"
    np.testing.assert_array_equal(table.x["size"], [np.nan] * 9 + list(range(31)))
    assert table.inputs == "3 inputs (2 of numbers, 1 of text) with 9 gaps"
    # What is missing says nothing of what the others are.
    assert np.isnan(load_csv(people(tmp_path, size=["NA"] * 38 + [1, 2])).x["size"]).sum() == 38
    assert load_csv(people(tmp_path, size=["NA", "big", "small", ""] * 10)).x["size"].tolist() == ["NA", "big", "small", ""] * 10


def test_what_is_neither_a_number_nor_missing_is_counted(tmp_path):
    for cells, message in (
        (["big", "small", *range(38)], 'holds numbers, but text in line 2 ("big") and 1 more: fix or remove those lines.'),
        (["", "none", *range(38)], 'holds numbers, but text in line 3 ("none"): fix or remove that line.'),
        (["", "2024-01-31", *range(38)], 'holds numbers, but text in line 3 ("2024-01-31"): fix or remove that line.'),
        (["", "inf", *range(38)], 'has no finite number in line 3 ("inf"): fill or remove that line.'),
        (["-inf", "inf", "", *range(37)], 'has no finite number in line 2 ("-inf") and 1 more: fill or remove those lines.'),
        (GAPS[:4] * 10, "has no number. Remove the column."),
    ):
        with pytest.raises(BadInput) as raised:
            load_csv(people(tmp_path, size=cells))
        assert str(raised.value) == f'{tmp_path / "data.csv"}: column "size" {message}'


def test_all_columns_that_cannot_be_used_are_reported_at_once(tmp_path):
    path = tmp_path / "data.csv"
    with pytest.raises(BadInput) as raised:
        load_csv(people(tmp_path, size=["big", *range(39)], weight=["", "inf", *range(38)], price=["", "NA", *range(38)]), "price")
    assert str(raised.value) == (
        f'{path}: column "size" holds numbers, but text in line 2 ("big"): fix or remove that line. Column "weight" has no finite number '
        'in line 3 ("inf"): fill or remove that line. Column "price", the target, has no value in line 2 (empty) and 1 more: fill or '
        "remove those lines."
    )
    with pytest.raises(BadInput) as raised:
        load_csv(people(tmp_path, **{f"x{i}": ["big", *range(39)] for i in range(7)}))
    reported = str(raised.value)
    assert 'Column "x4"' in reported
    assert 'Column "x5"' not in reported
    assert reported.endswith("fix or remove that line. And 2 more columns.")


def test_a_target_with_gaps_is_refused(tmp_path):
    for cells, line in (([5, 6] * 19 + ["", ""], "40 (empty) and 1 more: fill or remove those lines."),
                        ([5, 6] * 19 + ["NaN", 5], '40 ("NaN"): fill or remove that line.'),
                        (["x", "y"] * 19 + ["", "y"], "40 (empty): fill or remove that line.")):  # fmt: skip
        with pytest.raises(BadInput) as raised:
            load_csv(people(tmp_path, size=cells), "size")
        assert str(raised.value) == f'{tmp_path / "data.csv"}: column "size", the target, has no value in line {line}'
    assert load_csv(people(tmp_path, size=["NA", "EU"] * 20), "size").classes == ("EU", "NA")


def test_categories_that_are_numbers_are_reported(tmp_path):
    path = people(tmp_path, mass=[i / 8 for i in range(39)] + [""])
    with pytest.raises(BadInput) as raised:
        load_csv(path, categories=["mass"])
    assert str(raised.value) == (
        f'{path}: column "mass" holds 40 different numbers in 40 lines, too many to name categories. Leave it out of --categories, so that '
        "they are taken for numbers."
    )
    with pytest.raises(BadInput, match='column "mass" holds 40 different texts in 40 lines'):
        load_csv(people(tmp_path, mass=[f"{i} g" if i % 2 else i for i in range(40)]), categories=["mass"])
    with pytest.raises(BadInput, match="40 different texts in 40 lines: names or free text"):
        load_csv(people(tmp_path, mass=[f"kind {i}" for i in range(40)]), categories=["mass"])


@pytest.mark.parametrize("name", ["id", "ID", "customer_id", "CustomerId", "Unnamed: 0", "row number"])
def test_an_id_is_left_out_by_its_name(tmp_path, name):
    numbers = [i * i + 7 for i in range(40)]
    table = load_csv(people(tmp_path, **{name: numbers}))
    assert name not in table.x
    assert table.notes == (f'left out: "{name}", an ID: whole numbers, all different (--columns A,B chooses the columns)',)
    assert load_csv(people(tmp_path, **{name: numbers}), columns=[name]).x[name].tolist() == numbers
    # It numbers the lines only where all numbers differ and are whole.
    for other in ([7, *numbers[1:-1], 7], [i / 2 for i in numbers], ["", *numbers[1:]]):
        assert name in load_csv(people(tmp_path, **{name: other})).x


def test_numbers_that_follow_one_another_in_many_lines_are_an_id(tmp_path):
    kinds = {"a": np.random.default_rng(0).permutation(60) + 500, "b": range(0, 600, 10), "y": [0.5, 1.5] * 30}
    assert list(load_csv(csv_file(tmp_path, **kinds)).x) == ["b"]


def test_dates_are_read_as_the_file_writes_them(tmp_path):
    for cells, day, note in (
        (["3.4.2024", "1.2.2023"] * 20, "2024-04-03", 0),
        (["03/04/2024", "31/12/2023"] * 20, "2024-04-03", 0),
        (["03/04/2024", "12/31/2023"] * 20, "2024-03-04", 0),
        (["03/04/2024", "01/02/2023"] * 20, "2024-03-04", 1),
    ):
        table = load_csv(people(tmp_path, day=cells))
        assert str(table.x["day"][0])[:10] == day
        assert len(table.notes) == note
    assert table.notes == ('column "day": its dates may have the day or the month first ("03/04/2024"); it is read as the month',)
    # What is no date stands behind the cells that are looked at first.
    days = [str(day)[:10] for day in np.datetime64("2000-01-01") + np.arange(1100)]
    with pytest.raises(BadInput, match=r'column "day" holds dates, but something else in line 1102 \("soon"\): fix'):
        load_csv(csv_file(tmp_path, day=[*days, "soon"], kind=["a"] * 1100 + ["b"]))


def test_a_column_of_gaps_alone_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r'column "none" has no number\. Remove the column\.'):
        load_csv(people(tmp_path, none=[""] * 40))


def test_a_column_without_a_name_is_refused(tmp_path):
    path = people(tmp_path)
    path.write_text(path.read_text().replace("age,", ",", 1))
    with pytest.raises(BadInput, match="column 1 has no name"):
        load_csv(path)


def test_the_same_data_is_known_again_by_all_of_its_values(tmp_path):
    first = load_csv(people(tmp_path)).fingerprint
    assert load_csv(people(tmp_path)).fingerprint == first
    changed = people(tmp_path)
    changed.write_text(changed.read_text().replace("Rome", "Nome", 1))
    assert load_csv(changed).fingerprint != first
    renamed = people(tmp_path)
    renamed.write_text(renamed.read_text().replace("town", "city", 1))
    assert load_csv(renamed).fingerprint != first


def test_a_model_finds_its_columns_in_any_order_beside_others(tmp_path):
    features = TableFeatures()
    features.adapt(load_csv(people(tmp_path)).x)
    wanted = features.encode({"age": [3.0, 4.0], "town": ["Oslo", "Nome"]})
    other = csv_file(tmp_path, town=["Oslo", "Nome"], day=["2024-01-31"] * 2, age=[3, 4])
    np.testing.assert_array_equal(features.encode(columns_for(other, features)), wanted)
    with pytest.raises(BadInput, match='has no column "age", which the model was trained on; found "town"'):
        columns_for(csv_file(tmp_path, town=["Oslo"]), features)
    with pytest.raises(BadInput, match='column "age" holds numbers, but text in line 3 \\("old"\\)'):
        columns_for(csv_file(tmp_path, town=["Oslo"] * 2, age=[3, "old"]), features)


def test_a_model_takes_gaps_in_any_of_its_columns_of_numbers(tmp_path):
    features = TableFeatures()
    features.adapt(load_csv(people(tmp_path, size=["", *range(39)])).x)
    assert [getattr(column, "gaps", None) for column in features.columns] == [False, None, True]
    # A line alone may hold no number at all.
    new = csv_file(tmp_path, size=["NA"], age=[""], town=[""])
    columns = columns_for(new, features)
    np.testing.assert_array_equal([columns["age"], columns["size"]], [[np.nan], [np.nan]])
    np.testing.assert_array_equal(features.encode(columns), [[0, 0, np.nan]])


def test_a_matrix_is_all_columns_but_the_target(tmp_path):
    path = csv_file(tmp_path, a=[1, 2], y=[5, 6], b=[3, 4])
    assert matrix_of(path, "y").tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert matrix_of(path).shape == (2, 3)
    with pytest.raises(BadInput, match="has the target alone"):
        matrix_of(csv_file(tmp_path, y=[1, 2]), "y")
    with pytest.raises(BadInput, match='column "a" has no finite number in line 3 \\(empty\\): fill or remove that line'):
        matrix_of(csv_file(tmp_path, a=[1, ""], y=[5, 6]), "y")


def test_dates_of_pandas_are_no_target_and_no_numbers():
    frame = pd.DataFrame({"a": range(30), "when": pd.date_range("2024-01-01", periods=30)})
    with pytest.raises(BadInput, match='column "when" holds dates, and the target must be numbers or text'):
        load_frame(frame)
    with pytest.raises(BadInput, match='column "when" holds dates, and numbers are needed'):
        numbers(frame["when"])


def test_a_date_that_pandas_says_is_missing_is_missing():
    table = TableFeatures()
    table.adapt({"date": np.array(["2024-01-01", "2024-02-03", "2024-03-04"], "datetime64[s]")})
    dates = pd.Series(["2024-01-01", pd.NA], dtype="string")
    assert table.encode({"date": dates}).shape == table.encode({"date": np.array(["2024-01-01", ""])}).shape
    np.testing.assert_array_equal(table.encode({"date": dates}), table.encode({"date": np.array(["2024-01-01", ""])}))


def test_the_names_of_the_columns_whose_day_stands_first_are_a_list():
    with pytest.raises(TypeError, match="`day_first` must be a list of names of columns, got 'date'"):
        TableFeatures().adapt({"a": np.arange(3.0)}, day_first="date")


def test_a_column_with_infinity_is_named():
    with pytest.raises(BadInput, match="first in sample 3, column 'b'"):
        make_table({"a": np.arange(20.0), "b": np.where(np.arange(20) == 2, np.inf, 1.0)}, np.arange(20.0), "made")
