"""Dates in a table: their parts are pandas's, and a model knows them again."""

import keras
import numpy as np
import pandas as pd
import pytest

from keras_ext.tables import TableFeatures, load_csv
from keras_ext.tables._dates import part_of, parts_of

DAYS = pd.Series(pd.date_range("1968-02-27 03:30", periods=400, freq="47h"))


def test_parts_are_those_of_pandas():
    dates = np.append(DAYS.to_numpy("datetime64[s]"), np.datetime64("NaT"))
    assert part_of(dates, "year")[:-1].tolist() == DAYS.dt.year.tolist()
    assert part_of(dates, "month").tolist() == [*map(str, DAYS.dt.month), ""]
    assert part_of(dates, "weekday").tolist() == [*(name[:3] for name in DAYS.dt.day_name()), ""]
    assert part_of(dates, "days")[:-1].tolist() == ((DAYS - pd.Timestamp(0)) // pd.Timedelta(days=1)).tolist()
    np.testing.assert_allclose(part_of(dates, "hour")[:-1], DAYS.dt.hour + DAYS.dt.minute / 60)
    assert all(np.isnan(part_of(dates, part)[-1]) for part in ("year", "days", "hour"))


def test_parts_that_never_differ_say_nothing():
    def of(*texts):
        return list(parts_of(np.array(texts, "datetime64[s]")))

    assert of("2024-01-31", "2024-01-24") == ["days"]
    assert of("2024-01-31", "2024-02-01", "NaT") == ["month", "weekday", "days"]
    assert of("2024-01-31T10:15", "2024-01-31T11:15") == ["hour"]
    assert of("2024-01-31", "2024-01-31") == ["days"]


def test_a_layer_learns_the_parts_and_reads_text_as_it_was_written(in_new_process, tmp_path):
    dates = np.array(["2023-03-04", "2024-04-03", "2024-12-31", "NaT"], "datetime64[s]")
    layer = TableFeatures()
    layer.adapt({"size": [1.0, 2.0, 3.0, 4.0], "sold": dates}, day_first=["sold"])
    assert layer.sources == ("size", "sold")
    assert layer.names == ("size", "sold: year", "sold: month", "sold: weekday", "sold: days")
    wanted = layer.encode({"sold": dates, "size": [1, 2, 3, 4]})
    texts = {"size": [1, 2, 3, 4], "sold": ["4.3.2023", "3.4.2024", "31.12.2024", ""]}
    np.testing.assert_array_equal(layer.encode(texts), wanted)
    years = np.array([2023, 2024, 2024])
    np.testing.assert_allclose(wanted[:3, 1], (years - years.mean()) / years.std(), rtol=1e-6)
    features = keras.ops.convert_to_numpy(layer(wanted))
    # Size; year and its gap; four months (one is missing); three weekdays and none; days and its gap.
    assert features.shape == (4, layer.units) == (4, 1 + 2 + 4 + 4 + 2)
    assert features[3].sum() == pytest.approx(features[3, 0] + 4)
    same = TableFeatures.from_config(layer.get_config())
    np.testing.assert_array_equal(same.encode(texts), wanted)
    with pytest.raises(ValueError, match=r"`table\['sold'\]\[1\]` must be a date, got 'soon'"):
        layer.encode({"size": [1, 2], "sold": ["4.3.2023", "soon"]})
    model = keras.Sequential([keras.Input((5,)), layer, keras.layers.Dense(1)])
    model.save(tmp_path / "model.keras")
    code = "import sys, keras, keras_ext; m = keras.models.load_model(sys.argv[1]); " + (
        "print(m.layers[0].encode({'size': [2], 'sold': ['3.4.2024']}).tolist())"
    )
    assert in_new_process(code, tmp_path / "model.keras").strip().endswith(str(wanted[1:2].tolist()))


def test_a_large_file_is_read_as_a_small_one_and_what_comes_late_is_found(tmp_path):
    """Columns of numbers are read as such by their first 500 lines."""
    n = 700
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(size=n), "code": [f"0{i % 7}" for i in range(n)], "kind": ["a", "b"] * (n // 2)})
    frame.loc[600, "size"] = np.nan
    for separator, decimal in ((",", "."), (";", ","), (";", ".")):
        frame.to_csv(tmp_path / "data.csv", sep=separator, decimal=decimal, index=False)
        table = load_csv(tmp_path / "data.csv", categories=["code"])
        np.testing.assert_array_equal(table.x["size"], frame["size"])
        assert table.x["code"].tolist() == frame["code"].tolist()
        assert load_csv(tmp_path / "data.csv").x["code"].tolist() == [float(code) for code in frame["code"]]
        assert load_csv(tmp_path / "data.csv", target="code").classes == tuple(sorted({str(int(code)) for code in frame["code"]}))
    text = frame.to_csv(index=False, na_rep="NA").splitlines()
    for line, message in (("big,01,a", 'column "size" holds numbers, but text in line 651 ("big"): fix'), ("1.5,01", "line 651 has 2")):
        (tmp_path / "data.csv").write_text("\n".join([*text[:650], line, "", *text[650:]]))
        with pytest.raises(ValueError, match="line 651") as raised:
            load_csv(tmp_path / "data.csv")
        assert message in str(raised.value)
    (tmp_path / "data.csv").write_text("\n".join([*text[:650], "", *text[650:], "", ""]))
    assert len(load_csv(tmp_path / "data.csv")) == n
