"""Networks that grow: train a shallow one, add a layer, go on from the weights so far, as long as validation gets better."""

import copy
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_ext._checks import bad_argument, flag, in_range, integer, one_of
from keras_ext.callbacks import Finding, SaturationMonitor
from keras_ext.optimizers.exchange import clone
from keras_ext.search.grown import Grown, Stage
from keras_ext.search.weight_transfer import take_over

EARLIER, NEW = ("keep", "freeze", "draw"), ("drawn", "identity")


def grow(
    build: Callable[[int], keras.Model],
    x: Any,
    y: Any = None,
    *,
    validation_data: Any,
    objective: str = "val_loss",
    direction: str | None = None,
    start: int = 1,
    max_layers: int = 10,
    earlier: str = "keep",
    new: str = "drawn",
    patience: int = 1,
    min_delta: float = 0.0,
    epochs: int = 20,
    monitor: SaturationMonitor | None = None,
    on_stage: Callable[[Stage], None] | None = None,
    seed: int = 0,
    refine: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **fit: Any,
) -> Grown:
    """Train a shallow network, then deeper ones that begin with its weights, until depth no longer helps; returns the best.

    Each stage builds a network of one hidden layer more, and takes over the layers that both have, from the input on, as far as kind, name
    and shapes agree. It is trained with an optimizer of its own, and left with the weights of
    its best epoch, from which the next stage begins.

    Args:
        build: function of the number of hidden layers that returns a compiled network, `search.MLP` and the like with a fixed `layers`, or
            one of your own; layers that two depths share have equal names but for a number at the end.
        x: inputs as fit takes them.
        y: targets likewise.
        validation_data: as fit takes it; the scores are taken on it.
        objective: name in the logs that decides.
        direction: `"min"` or `"max"`; None: `"max"` where the name has accuracy, auc, precision, recall, f1 or r2 in it.
        start: layers of the first network.
        max_layers: layers of the last, at least `start`.
        earlier: what becomes of the weights that are taken over. `"keep"`: they go on being trained. `"freeze"`: they stay, and
            normalization among them uses what it has learnt; the new layers and those behind are trained. `"draw"`: none are taken over,
            every network is trained from scratch, for comparison.
        new: how added layers begin. `"drawn"`: by their initializers, and so do the layers behind them. `"identity"`: a Dense layer of as
            many inputs as outputs passes its input on, so that a network of ReLUs without normalization or dropout begins as the one
            before it, and the layers behind it keep their weights.
        patience: stages in a row without a better score that end the growth.
        min_delta: by how much a score must be better to count, at least 0.
        epochs: of each stage.
        monitor: observes each network; with `on_critical="stop"` it ends those that will not learn.
        on_stage: function that is called with each stage as it ends.
        seed: stage n draws its weights from `seed + n`.
        refine: train the best network once more as a whole, all weights at once, for `epochs`; kept if it is better.
        callbacks: for each fit; each stage gets copies.
        **fit: further arguments of fit.

    Raises:
        ValueError: an argument is out of range, `build` returns a network that is not compiled, or `objective` is not in the logs.
        RuntimeError: no network had a finite score.

    Examples:
        >>> import numpy as np
        >>> def build(layers):
        ...     model = keras.Sequential([keras.Input((2,))])
        ...     for i in range(layers):
        ...         model.add(keras.layers.Dense(16, "relu", name=f"hidden_{i + 1}"))
        ...     model.add(keras.layers.Dense(1, name="output"))
        ...     model.compile(keras.optimizers.Adam(0.01), "mse")
        ...     return model
        >>> x = np.random.default_rng(0).uniform(-1, 1, (256, 2))
        >>> y = x[:, :1] * x[:, 1:]
        >>> grown = grow(build, x[:200], y[:200], validation_data=(x[200:], y[200:]), epochs=5, max_layers=3, verbose=0)
        >>> len(grown.model.layers) - 1 == grown.best.layers
        True

    References:
        Bengio, Lamblin, Popovici and Larochelle (2007), Greedy layer-wise training of deep networks: with targets, from shallow to deep.
        Chen, Goodfellow and Shlens (2016), Net2Net, arXiv:1511.05641, section 2.4: layers that begin as identity.
    """
    integer("start", start)
    check_growth(max_layers, earlier, new, patience, epochs, seed)
    if max_layers < start:
        raise bad_argument("max_layers", f"at least start, {start}", max_layers)
    one_of("direction", direction, (None, "min", "max"))
    in_range("min_delta", min_delta, 0.0)
    flag("refine", refine)
    if monitor is not None and not isinstance(monitor, SaturationMonitor):
        raise bad_argument("monitor", "a SaturationMonitor or None", monitor, error=TypeError)
    direction = direction or ("max" if re.search("acc|auc|precision|recall|f1|r2", objective) else "min")
    run = _Run(build, x, y, {**fit, "validation_data": validation_data, "epochs": epochs}, objective, direction, monitor, callbacks, seed)
    stages: list[Stage] = []
    before: keras.Model | None = None
    best: tuple[float, int, list[Any]] | None = None
    without = 0
    for layers in range(start, max_layers + 1):
        model = run.built(layers)
        if before is not None and earlier != "draw":
            taken = take_over(before, model, identity=new == "identity")
            if earlier == "freeze":
                run.freeze(model, taken)
        score, stage = run.trained(model, layers, best, min_delta)
        stages.append(stage)
        if stage.is_best and score is not None:
            best, without = (score, layers, model.get_weights()), 0
        else:
            without += 1
        if on_stage is not None:
            on_stage(stage)
        if without >= patience:
            break
        before = model
    if best is None:
        raise RuntimeError(f"No network had a finite {objective}. " + "; ".join(f.advice for s in stages for f in s.findings[:1]))
    # Built again: what was frozen can be trained again, and the optimizer has no state of weights that are gone.
    model = run.built(best[1])
    model.set_weights(best[2])
    if refine:
        score, stage = run.trained(model, best[1], best, min_delta)
        stages.append(stage)
        if not stage.is_best:
            model.set_weights(best[2])
        if on_stage is not None:
            on_stage(stage)
    return Grown(model, tuple(stages), objective)


def check_growth(max_layers: int, earlier: str, new: str, patience: int, epochs: int, seed: int) -> None:
    """Refuse what `grow` cannot take of these of its arguments: for who must know before there are networks to grow."""
    integer("max_layers", max_layers)
    one_of("earlier", earlier, EARLIER)
    one_of("new", new, NEW)
    integer("patience", patience)
    integer("epochs", epochs)
    integer("seed", seed, 0)


@dataclass(frozen=True)
class _Run:
    """The settings that all stages share."""

    build: Callable[[int], keras.Model]
    x: Any
    y: Any
    fit: dict[str, Any]
    objective: str
    direction: str
    monitor: SaturationMonitor | None
    callbacks: Sequence[keras.callbacks.Callback]
    seed: int

    def built(self, layers: int) -> keras.Model:
        """Return a new network."""
        keras.utils.set_random_seed((self.seed + layers) % 2**32)
        model = self.build(layers)
        if not isinstance(model, keras.Model) or not model.compiled or not model.built:
            raise bad_argument("build", "a function of a number of layers that returns a compiled network that knows its inputs", model)
        return model

    def freeze(self, model: keras.Model, layers: Sequence[Any]) -> None:
        """Let `layers` keep their weights. The optimizer may be built on all of them, and is made again."""
        for layer in layers:
            layer.trainable = False
        model.optimizer = clone(model.optimizer)

    def trained(self, model: keras.Model, layers: int, best: Any, min_delta: float) -> tuple[float | None, Stage]:
        """Train a network; it is left with the weights of its best epoch."""
        findings: list[Finding] = []
        keeper = _BestEpoch(self.objective, self.direction)
        watching: list[Any] = []
        if self.monitor is not None:
            monitor, reported = copy.copy(self.monitor), self.monitor.on_finding

            def found(finding: Finding) -> None:
                findings.append(finding)
                if reported is not None:
                    reported(finding)

            monitor.on_finding = found
            watching.append(monitor)
        moved = sum(math.prod(v.shape) for v in model.trainable_variables)
        began = time.monotonic()
        # The last: what others put into the logs can be the objective.
        history = model.fit(self.x, self.y, **self.fit, callbacks=[*watching, *copy.deepcopy(list(self.callbacks)), keeper])
        seconds = round(time.monotonic() - began, 3)
        if self.objective not in history.history:
            reported_of = ", ".join(sorted(history.history))
            raise bad_argument("objective", f"a name in the logs ({reported_of})", self.objective)
        score = keeper.score
        sign = 1 if self.direction == "max" else -1
        is_best = score is not None and (best is None or sign * (score - best[0]) > min_delta)
        return score, Stage(layers, score, len(history.epoch), seconds, moved, is_best, tuple(findings))


class _BestEpoch(keras.callbacks.Callback):
    """Leaves a model with the weights of its best epoch."""

    def __init__(self, objective: str, direction: str) -> None:
        super().__init__()
        self.score: float | None = None
        self._objective, self._sign = objective, 1 if direction == "max" else -1
        self._weights: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        score = (logs or {}).get(self._objective, math.nan)
        if math.isfinite(score) and (self.score is None or self._sign * (score - self.score) > 0):
            self.score, self._weights = float(score), self.model.get_weights()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._weights:
            self.model.set_weights(self._weights)
