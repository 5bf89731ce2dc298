"""The TensorBoard scalars, read back by TensorBoard."""

import contextlib
import math
import sys
from dataclasses import replace

import keras
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray

from keras_ext.callbacks.monitor.report.scalars import Scalars


def read(folder):
    """Return the scalars of a folder as TensorBoard loads them: `{tag: [(step, value), ...]}`."""
    scalars = {}
    for file in sorted(folder.iterdir()):
        assert "tfevents" in file.name
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                scalars.setdefault(value.tag, []).append((event.step, float(make_ndarray(value.tensor))))
                assert not value.metadata.plugin_data.plugin_name or value.metadata.plugin_data.plugin_name == "scalars"
    return scalars


def test_each_snapshot_is_there_at_its_step(made_snapshots, tmp_path):
    snapshots, _ = made_snapshots()
    with contextlib.closing(Scalars(tmp_path / "logs" / "run")) as scalars:
        for snapshot in snapshots:
            scalars.write(snapshot)
    found = read(tmp_path / "logs" / "run")
    assert [step for step, _ in found["loss"]] == [0, 45, 90]
    assert [value for _, value in found["loss"]] == pytest.approx([snapshot.loss for snapshot in snapshots])
    assert [value for _, value in found["spread"]] == [0.5] * 3
    assert found["clipped"] == [(45, 0.25), (90, 0.25)]
    assert "skipped" not in found
    assert [value for _, value in found["saturation"]] == pytest.approx(
        [max(a.saturated for a in snapshot.hidden) for snapshot in snapshots]
    )
    assert [value for _, value in found["dead"]] == pytest.approx([max(a.dead for a in snapshot.hidden) for snapshot in snapshots])
    assert [value for _, value in found["gradient_ratio"]] == pytest.approx([snapshot.gradient_ratio for snapshot in snapshots])


def test_each_layer_has_its_own(made_snapshots, tmp_path):
    snapshots, _ = made_snapshots()
    with contextlib.closing(Scalars(tmp_path)) as scalars:
        for snapshot in snapshots:
            scalars.write(snapshot)
    found = read(tmp_path)
    first, second = snapshots[1].activations[:2]
    assert found["saturation/layer_1"][1] == (45, pytest.approx(first.saturated))
    assert found["dead/layer_2"][1] == (45, pytest.approx(second.dead))
    assert "saturation/layer_2" not in found
    assert "dead/layer_1" not in found
    kernel = snapshots[1].kernels[0]
    assert found["gradient_norm/layer_1"][1] == (45, pytest.approx(kernel.gradient_norm))
    assert found["gradient_over_weight/layer_1"][1] == (45, pytest.approx(kernel.gradient_ratio))
    assert found["update_over_weight/layer_1"] == [(step, pytest.approx(0.01 / 8)) for step in (45, 90)]


def test_what_is_not_finite_is_nan(made_snapshots, tmp_path):
    snapshots, _ = made_snapshots(unhealthy=True)
    with contextlib.closing(Scalars(tmp_path)) as scalars:
        scalars.write(snapshots[-1])
    found = read(tmp_path)
    assert found["loss"] == [(90, math.inf)]
    for tag in ("saturation", "gradient_ratio", "saturation/layer_1", "gradient_norm/layer_1"):
        assert math.isnan(found[tag][0][1]), tag
    assert math.isfinite(found["gradient_norm/layer_2"][0][1])


def test_a_number_beyond_float32_does_not_end_the_training(made_snapshots, tmp_path):
    with contextlib.closing(Scalars(tmp_path)) as scalars:
        scalars.write(replace(made_snapshots()[0][0], loss=1e300))
    assert read(tmp_path)["loss"] == [(0, math.inf)]


def test_a_snapshot_can_be_read_before_the_end_and_closing_twice_is_allowed(made_snapshots, tmp_path):
    scalars = Scalars(str(tmp_path))
    scalars.write(made_snapshots()[0][0])
    assert read(tmp_path)["loss"] == [(0, pytest.approx(2.3))]
    scalars.close()
    scalars.close()
    with pytest.raises(ValueError, match="closed"):
        scalars.write(made_snapshots()[0][0])


def test_two_runs_into_one_folder_do_not_overwrite_each_other(made_snapshots, tmp_path):
    snapshots, _ = made_snapshots()
    for snapshot in snapshots[:2]:
        with contextlib.closing(Scalars(tmp_path)) as scalars:
            scalars.write(snapshot)
    assert len(list(tmp_path.iterdir())) == 2
    assert [step for step, _ in read(tmp_path)["loss"]] == [0, 45]


def test_without_tensorboard_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(ImportError) as caught:
        Scalars(tmp_path / "logs")
    assert str(caught.value) == "SaturationMonitor(log_dir=...) needs the package tensorboard. Install it: pip install tensorboard."
    assert not (tmp_path / "logs").exists()


def test_a_folder_that_cannot_be_made_raises(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        Scalars(tmp_path / "file" / "logs")


def test_it_imports_no_tensorflow(in_new_process, tmp_path):
    if keras.backend.backend() == "tensorflow":
        pytest.skip("Keras has imported it")
    code = """
import contextlib, sys
import keras, keras_ext
before = "tensorflow" in sys.modules
from keras_ext.callbacks.monitor.report.scalars import Scalars
from keras_ext.callbacks.monitor.snapshot import Snapshot
with contextlib.closing(Scalars(sys.argv[1])) as scalars:
    scalars.write(Snapshot(0, 0, 1.0, 1.0, (), ()))
print(before, "tensorflow" in sys.modules)
"""
    before, after = in_new_process(code, tmp_path, imports=True).split()
    assert after == before
    assert read(tmp_path)["loss"] == [(0, 1.0)]
