"""The study of broken layers: its damage, its arithmetic, and one tiny run of it."""

import keras
import numpy as np
import pytest

from benchmarks.studies import broken_layers
from keras_ext.callbacks import Finding

pytestmark = pytest.mark.backend_free


@pytest.mark.parametrize(("fault", "kernel", "bias"), [("scale x 30", 30.0, 0.0), ("scale 0", 0.0, 0.0), ("bias -10", 1.0, -10.0)])
def test_a_fault_changes_kernel_or_bias(fault, kernel, bias):
    layer = keras.layers.Dense(2, kernel_initializer="ones")
    layer.build((None, 3))
    broken_layers.damage(layer, fault)
    np.testing.assert_allclose(layer.kernel, np.full((3, 2), kernel))
    np.testing.assert_allclose(layer.bias, np.full(2, bias))


def verdict(*findings):
    made = [Finding("dead_relu", severity, layer, 7, 1, 1.0, 0.5, "") for severity, layer in findings]
    return broken_layers.verdict(made, ["h2", "h2_act"], ["h1", "h2", "h2_act", "out"])


def test_the_lowest_critical_layer_counts_and_the_network_as_a_whole_does_not():
    assert verdict(("critical", "out"), ("critical", "h2_act"), ("critical", None), ("warning", "h1"))["right"]
    assert not verdict(("critical", "h1"), ("critical", "h2"))["right"]
    assert not verdict(("critical", None), ("warning", "h2"))["right"]
    assert (verdict(("warning", "h2"))["step"], verdict(("warning", "h1"))["step"]) == (7, None)


def run(fault, accuracy, **found):
    last = {"loss": 1.0, "accuracy": accuracy, "val_accuracy": accuracy}
    return {"network": "n", "fault": fault, "seed": 0, "last": last, "findings": 0, "critical": False, "right": False, **found}


def test_the_table_counts_harm_and_when_the_broken_layer_was_reported():
    at_start = {"findings": 1, "critical": True, "right": True, "step": 0, "epoch": 0}
    late = {"findings": 1, "critical": True, "right": False, "step": 20, "epoch": 2}
    clean = run("clean", 0.9, step=None, epoch=None)
    rows = broken_layers.table(
        {"runs": [clean, run("scale 0", 0.5, **at_start), run("bias -10", 0.5, **late), run("scale / 30", 0.9, **late)]}
    )
    assert (rows["all"]["harmed"], rows["all"]["critical"], rows["all"]["right of critical"]) == (2, 3, 1 / 3)
    assert rows["zeros or bias"]["reported before step 1"] == rows["all"]["harmed, reported in epoch 1"] == 0.5
    assert rows["scaled"]["reported by step 10"] == 0.0
    assert rows["clean"] == {"runs": 1, "with a finding": 0}


def test_a_broken_layer_is_found_in_a_tiny_run(monkeypatch):
    monkeypatch.setattr(broken_layers, "TRAINED", 64)
    tiny = broken_layers.Architecture((("dense", 16), ("dense", 16)), "momentum", 0.01)
    monkeypatch.setitem(broken_layers.ARCHITECTURES, "tiny", tiny)
    found, again = (broken_layers.trained("tiny", "bias -10", 0, 1) for _ in range(2))
    assert (found["step"], found["epoch"]) == (0, 0)
    assert found == again


@pytest.mark.parametrize("name", broken_layers.ARCHITECTURES)
def test_a_network_has_the_layers_that_its_name_says_and_asks_for_each_activation(name):
    asked = []
    model = broken_layers.ARCHITECTURES[name].build(lambda layer, kind: asked.append(layer) or kind)
    hidden = [layer.name for layer in model.layers if layer.name.startswith("h") and layer.name[1:].isdigit()]
    assert hidden == [f"h{i}" for i in range(1, int(name.split(", ")[1]) + 1)]
    assert set(asked) <= set(hidden)
    assert model.output_shape == (None, 10)
