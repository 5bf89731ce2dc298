"""The JSON file: strict, whole, and back without loss."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import keras_ext
from keras_ext import _atomic
from keras_ext.callbacks.monitor.report.json_report import from_json, to_json

pytestmark = pytest.mark.backend_free


def strictly(path):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.mark.parametrize("unhealthy", [False, True])
def test_there_and_back(made_snapshots, tmp_path, unhealthy):
    snapshots, findings = made_snapshots(unhealthy=unhealthy)
    snapshots[0] = replace(snapshots[0], loss=-math.inf, is_regular=False)
    to_json(tmp_path / "report.json", snapshots, findings)
    back, found = from_json(tmp_path / "report.json")
    # NaN is not equal to itself; the text of a dataclass reports types and every digit.
    assert repr(back) == repr(snapshots)
    assert found == findings
    assert isinstance(back[0].weights[0].gradient_norm, float)
    assert back[0].hidden == snapshots[0].hidden


def test_what_stands_in_the_file(made_snapshots, tmp_path):
    snapshots, findings = made_snapshots(unhealthy=True)
    to_json(
        tmp_path / "report.json", snapshots, findings, model="größer", rate=math.nan, folder=tmp_path, steps=np.int64(3), names=("a", "b")
    )
    content = strictly(tmp_path / "report.json")
    assert list(content) == ["keras_ext", "header", "findings", "snapshots"]
    assert content["keras_ext"] == keras_ext.__version__
    assert content["header"] == {"model": "größer", "rate": None, "folder": str(tmp_path), "steps": 3, "names": ["a", "b"]}
    assert content["snapshots"][-1]["loss"] == "Infinity"
    assert content["snapshots"][-1]["weights"][0]["gradient_norm"] is None
    assert content["snapshots"][-1]["activations"][0]["finite"] is False
    assert content["findings"][-1]["layer"] is None


def test_numpy_numbers_and_minus_infinity(made_snapshots, tmp_path):
    snapshots, _ = made_snapshots()
    snapshots[0] = replace(snapshots[0], loss=np.float32(-np.inf), spread=np.float32(0.5), step=np.int64(4))
    to_json(tmp_path / "r.json", snapshots, [])
    content = strictly(tmp_path / "r.json")
    assert (content["snapshots"][0]["loss"], content["snapshots"][0]["spread"], content["snapshots"][0]["step"]) == ("-Infinity", 0.5, 4)


def test_parents_are_made_and_nothing_else_is_left(made_snapshots, tmp_path):
    path = tmp_path / "a" / "b" / "report.json"
    to_json(path, *made_snapshots())
    to_json(str(path), [], [])
    assert from_json(path) == ([], [])
    assert [p.name for p in path.parent.iterdir()] == ["report.json"]


def test_a_path_that_cannot_be_written_raises(made_snapshots, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        to_json(tmp_path / "file" / "report.json", *made_snapshots())
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        to_json(tmp_path / "folder", *made_snapshots())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_a_file_stays_whole_when_writing_ends_midway(made_snapshots, tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    to_json(path, *made_snapshots())
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_atomic.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        to_json(path, [], [])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_a_field_of_another_version_is_left_out(made_snapshots, tmp_path):
    snapshots, findings = made_snapshots()
    path = tmp_path / "report.json"
    to_json(path, snapshots, findings)
    content = strictly(path)
    content["snapshots"][0]["weights"][0]["invented_later"] = 1
    content["findings"][0]["invented_later"] = 1
    path.write_text(json.dumps(content))
    assert repr(from_json(path)) == repr((snapshots, findings))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"snapshots": [{}]}',
        '{"snapshots": [], "findings": [{"layer": "a"}]}',
        '{"snapshots": [], "findings": [3]}',
        '{"snapshots": 3}',
        '{"snapshots": [3]}',
    ],
)
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ValueError, match=r"other\.json is not a report of keras_ext"):
        from_json(tmp_path / "other.json")
    with pytest.raises(FileNotFoundError):
        from_json(tmp_path / "missing.json")
