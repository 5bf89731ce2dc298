"""Columns of a CSV file: numbers, categories, and what is neither."""

import numpy as np
import pytest

from keras_ext._checks import BadInput
from keras_ext.layers import TableFeatures
from keras_ext.search.data.csv_file import columns_for, load_csv, matrix_of

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
     "31 Jan 2024", "January 31, 2024", "31-Jan-24"],
)  # fmt: skip
def test_dates_and_times_are_refused(tmp_path, cell):
    with pytest.raises(BadInput) as raised:
        load_csv(people(tmp_path, day=[f'"{cell}"'] * 39 + [""]))
    assert str(raised.value).startswith(
        f'{tmp_path / "data.csv"}: column "day" holds dates or times ("{cell}"). Put numbers in their place'
    )


@pytest.mark.parametrize("cell", ["3-4", "12/7", "B-12-14", "10:1:1:1", "1.2.3.4", "Mai"])
def test_other_text_is_no_date(tmp_path, cell):
    assert load_csv(people(tmp_path, code=[cell, "other"] * 20)).x["code"].dtype.kind == "U"


def test_names_and_free_text_are_refused(tmp_path):
    with pytest.raises(BadInput, match='column "name" holds 40 different texts in 40 lines: names or free text'):
        load_csv(people(tmp_path, name=[f"Ada {i}" for i in range(40)]))
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


def test_gaps_and_text_among_numbers_are_counted(tmp_path):
    with pytest.raises(BadInput, match='column "size" has no finite number in line 4 \\(empty\\) and 2 more'):
        load_csv(people(tmp_path, size=[1, 2, "", "", "nan", *range(35)]))
    with pytest.raises(BadInput, match='column "size" holds numbers, but text in line 2 \\("big"\\) and 1 more'):
        load_csv(people(tmp_path, size=["big", "small", *range(38)]))


def test_a_file_with_tabs_is_told(tmp_path):
    path = people(tmp_path)
    path.write_text(path.read_text().replace(",", "\t"))
    with pytest.raises(BadInput, match="its values are separated by tabs"):
        load_csv(path)


def test_a_column_of_gaps_alone_is_refused(tmp_path):
    with pytest.raises(BadInput, match='column "none" has no finite number in line 2 \\(empty\\)'):
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


def test_a_matrix_is_all_columns_but_the_target(tmp_path):
    path = csv_file(tmp_path, a=[1, 2], y=[5, 6], b=[3, 4])
    assert matrix_of(path, "y").tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert matrix_of(path).shape == (2, 3)
    with pytest.raises(BadInput, match="has the target alone"):
        matrix_of(csv_file(tmp_path, y=[1, 2]), "y")
