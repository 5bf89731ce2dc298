"""The study of broken layers: its damage, its arithmetic, and one tiny run of it."""

import keras
import numpy as np
import pytest

from benchmarks.studies import breakable_networks, broken_layers, broken_layers_report
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
    run = {"fault": "scale 0", "broken": "h2", "names": ["h2", "h2_act"], "order": ["h1", "h2", "h2_act", "out"]}
    made = [Finding("dead_relu", severity, layer, 1, 0, 1.0, 0.5, "") for severity, layer in findings]
    return broken_layers.Verdict(run, made, True)


def test_the_lowest_critical_layer_counts_and_the_network_as_a_whole_does_not():
    assert verdict(("critical", "out"), ("critical", "h2_act"), ("critical", None), ("warning", "h1")).right
    assert not verdict(("critical", "h1"), ("critical", "h2")).right
    assert not verdict(("critical", None), ("warning", "h2")).right
    assert verdict(("warning", "h2")).told is not None


def test_a_run_is_recorded_so_that_its_findings_can_be_replayed(monkeypatch):
    monkeypatch.setattr(broken_layers, "TRAINED", 64)
    tiny = breakable_networks.Architecture(
        lambda kinds: breakable_networks.dense_stack(kinds, 2, "relu", "he_normal"), keras.optimizers.SGD
    )
    monkeypatch.setitem(breakable_networks.ARCHITECTURES, "tiny", tiny)
    trainer = broken_layers.Trainer("tiny", epochs=1)
    runs = {}
    for fault in (broken_layers.CLEAN, "bias -10"):
        runs["tiny", fault, 0] = run = trainer.run(fault, 0)
        _, monitor, _ = trainer._compiled[None]
        assert broken_layers.replay(run) == monitor.findings
    broken = run["broken"]
    assert broken == trainer.broken("bias -10", 0)
    assert next(a.layer for a in run["looks"][0].hidden if a.dead > 0.9) == broken
    figures = broken_layers.summary(broken_layers.verdicts(runs))
    assert figures["all"]["runs"] == figures["clean"]["runs"] == 1
    assert "bias -10" in broken_layers_report.text(figures)
