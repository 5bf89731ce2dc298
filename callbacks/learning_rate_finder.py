"""A learning-rate range test: which rate to train with, before training."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ext._checks import bad_argument, in_range, integer
from keras_ext._warnings import warn
from keras_ext.callbacks.monitor.probe.samples import build, cannot, check_targets, probe_batch, random_state_kept
from keras_ext.callbacks.rate_curve import RateCurve
from keras_ext.optimizers.exchange import clone, innermost

# The loss that ends a test is a running mean of about so many steps; and the test runs for at least so many.
_MEMORY = 5
_AT_LEAST = 10


class LearningRateFinder:
    """Train for some steps while the rate grows from far too small to far too large, and see at which the loss falls fastest.

    `find(model)` takes any compiled model and leaves it as it was, bit for bit: weights, moving statistics, seeds, metrics, and the
    generators of Python, NumPy and PyTorch. An optimizer of the same settings with slots of its own takes the steps, so that the model's
    is not touched, and may have a schedule as its rate. A model without weights gets those that `fit` would begin with.

    Args:
        x: inputs as `fit` takes them, arrays or a dataset of batches. At most `steps * batch_size` samples are taken and kept: of arrays
            drawn by `seed`, of a dataset the first.
        y: targets likewise; None with a dataset.
        sample_weight: weights likewise, or None.
        batch_size: that of the training, as the noise decides which rates are too large. With `gradient_accumulation_steps=n` a step takes
            n batches.
        steps: steps of the test, at least 10.
        min_learning_rate: rate of the first step, above 0.
        max_learning_rate: rate of the last step.
        stop_factor: above 1; the test ends when the running loss is so many times its lowest, or at once where it is not finite.
        seed: of the draw and of the order of the samples, at least 0.

    Raises:
        ValueError: a number is outside its range; in `find`: the model is not compiled, or cannot be trained on the data.
        TypeError: `x` can be read once only; in `find`: `model` is no Keras model, or its optimizer has no `learning_rate` in its config.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(512, 8)).astype("float32")
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1, kernel_initializer="zeros")])
        >>> model.compile("sgd", "mse")
        >>> curve = LearningRateFinder(x, x @ np.ones((8, 1)), steps=60).find(model)
        >>> 0.003 < curve.suggested < 0.3 < curve.rates[-1]
        True

    References:
        Smith (2017), Cyclical learning rates for training neural networks, arXiv:1506.01186, section 3.3. The growth by a factor, the end
        at four times the lowest loss and the fastest fall as the rate to take are those of fastai's `lr_find`.
    """

    def __init__(
        self, x: Any, y: Any = None, sample_weight: Any = None, *, batch_size: int = 32, steps: int = 100,
        min_learning_rate: float = 1e-7, max_learning_rate: float = 10.0, stop_factor: float = 4.0, seed: int = 0,
    ) -> None:  # fmt: skip
        self.batch_size = integer("batch_size", batch_size)
        self.steps = integer("steps", steps, _AT_LEAST)
        self.min_learning_rate = float(in_range("min_learning_rate", min_learning_rate, 0.0, closed="neither"))
        self.max_learning_rate = float(in_range("max_learning_rate", max_learning_rate, 0.0, closed="neither"))
        if max_learning_rate <= min_learning_rate:
            raise bad_argument("max_learning_rate", f"above min_learning_rate, {min_learning_rate}", max_learning_rate)
        self.stop_factor = float(in_range("stop_factor", stop_factor, 1.0, closed="neither"))
        self.seed = integer("seed", seed, 0)
        self._data = x, y, sample_weight

    def find(self, model: keras.Model) -> RateCurve:
        """Return the losses by rate, and the rate that they suggest: `find(model).suggested`; None, with a warning, if none stands out."""
        if not isinstance(model, keras.Model):
            raise bad_argument("model", "a keras.Model", model, error=TypeError)
        if not model.compiled:
            raise ValueError("`model` must be compiled before its rate can be found. Call model.compile(...) first.")
        together = getattr(innermost(model.optimizer), "gradient_accumulation_steps", None) or 1
        data = probe_batch(*self._data, size=self.steps * together * self.batch_size, seed=self.seed)
        check_targets(model, data)
        build(model, data)
        with random_state_kept(self._data[0]), _left_as_it_was(model):
            curve = self._test(model, data, together)
        if curve.suggested is None:
            warn(
                f"LearningRateFinder suggests no rate: in {len(curve.rates)} steps the loss fell by no more than its noise. Scale the "
                "inputs to unit variance, take a larger `batch_size` or more `steps`; `plot()` shows the losses."
            )
        return curve

    def __getattr__(self, name: str) -> Any:
        """Raise a clear error where `fit` is given the finder as a callback, and asks for its hooks."""
        what = f"LearningRateFinder has no {name!r}"
        if name.startswith(("on_", "set_")):
            what = "LearningRateFinder is no callback of `fit`. Before it, call LearningRateFinder(x, y).find(model)"
        raise AttributeError(f"{what}.")

    def _test(self, model: keras.Model, data: tuple[Any, Any, Any], together: int) -> RateCurve:
        ratio = self.max_learning_rate / self.min_learning_rate
        # Keras's schedules count batches; the last one of a step moves the weights.
        batches = together * (self.steps - 1)
        first = self.min_learning_rate / ratio ** ((together - 1) / batches)
        strategy = getattr(model, "distribute_strategy", None)
        with contextlib.nullcontext() if strategy is None else strategy.scope():
            model.optimizer = clone(model.optimizer, keras.optimizers.schedules.ExponentialDecay(first, batches, ratio))
        model.train_function = None
        model.steps_per_execution = 1
        rates: list[float] = []
        losses: list[float] = []
        running, lowest, taken = 0.0, math.inf, 0
        order = self._batches(data)
        # Steps that are left out, of a loss scale that begins too high, are taken again, but not for ever.
        for _ in range(2 * self.steps):
            loss = float(np.mean([_loss_of_batch(model, data, next(order)) for _ in range(together)]))
            now = int(ops.convert_to_numpy(model.optimizer.iterations))
            if now == taken and math.isfinite(loss):
                continue
            rates.append(self.min_learning_rate * ratio ** (taken / (self.steps - 1)))
            losses.append(loss)
            taken = max(now, taken + 1)
            if not math.isfinite(loss) or taken >= self.steps:
                break
            share = 1 / min(len(losses), _MEMORY)
            running += share * (loss - running)
            lowest = min(lowest, running)
            # Of a loss below 0 there is no multiple: there it may rise as far above the first as it fell below.
            most = self.stop_factor * lowest if lowest > 0 else 2 * losses[0] - lowest
            if len(losses) > _AT_LEAST and running > most:
                break
        return RateCurve(tuple(rates), tuple(losses), self.steps)

    def _batches(self, data: tuple[Any, Any, Any]) -> Iterator[Any]:
        """Yield the rows of one batch after the other, in a new order after each pass."""
        count = next(len(a) for a in tree.flatten(data) if a is not None)
        rng = np.random.default_rng(self.seed)
        size = min(self.batch_size, count)
        while True:
            order = rng.permutation(count)
            yield from (order[i : i + size] for i in range(0, count - size + 1, size))


def _loss_of_batch(model: keras.Model, data: tuple[Any, Any, Any], rows: Any) -> float:
    batch = tree.map_structure(lambda a: None if a is None else a[rows], data)
    try:
        return float(model.train_on_batch(*batch, return_dict=True)["loss"])
    except Exception as error:
        raise cannot("trained", model, batch, error) from error


@contextlib.contextmanager
def _left_as_it_was(model: Any) -> Iterator[None]:
    variables = {id(v): v for v in (*model.variables, *model.metrics_variables)}.values()
    kept = [(v, ops.convert_to_numpy(v)) for v in variables]
    attributes = {name: getattr(model, name) for name in ("optimizer", "train_function", "steps_per_execution")}
    try:
        yield
    finally:
        for name, value in attributes.items():
            setattr(model, name, value)
        # Metrics that were made by the first step have no values to go back to.
        model.reset_metrics()
        for variable, value in kept:
            variable.assign(value)
