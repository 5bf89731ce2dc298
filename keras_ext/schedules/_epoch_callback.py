"""How a dataset whose size depends on the epoch learns which one begins."""

from typing import Any

import keras

from keras_ext._checks import bad_argument
from keras_ext.schedules._epoch_steps import EpochSteps


class EpochCallback(keras.callbacks.Callback):
    """Tells the `GrowingBatches` that a `fit` trains on which epoch begins.

    It holds none: a search copies its callbacks and not its data, and what is pickled twice is two.
    """

    def set_params(self, params: dict[str, Any]) -> None:
        super().set_params(params)
        steps = params.get("steps")
        if isinstance(steps, EpochSteps):
            steps.data._presence = Presence(was_read_ahead=steps.data._presence.was_read_ahead)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._data()._begin_training(self.model)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._data()._announce(epoch)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._data()._end_training()

    def _data(self) -> Any:
        steps = (self.params or {}).get("steps")
        if not isinstance(steps, EpochSteps):
            raise bad_argument(
                "steps_per_epoch", "None, and `x` a GrowingBatches, where its callback is given", steps,
                "How many steps an epoch has follows from its batch size.",
            )  # fmt: skip
        return steps.data


class Presence:
    """Finds out whether the callback is there, from the order in which Keras calls the hooks of a dataset.

    Before the first epoch Keras may begin one to build the model from a batch, and always ends one: what begins after that is an epoch.
    A training that failed may have left off anywhere.
    """

    def __init__(self, *, was_read_ahead: bool = False) -> None:
        self.was_read_ahead = was_read_ahead
        self.is_announced = False
        self._in_epoch = False
        self._must_be_announced = False

    def begin(self) -> bool:
        """Return whether what begins is an epoch that was announced."""
        announced, self.is_announced = self.is_announced, False
        if not announced and self._must_be_announced:
            self._must_be_announced = False
            raise ValueError(
                "GrowingBatches cannot know which epoch begins without its callback: "
                "`model.fit(data, shuffle=False, callbacks=[data.callback()])`. To evaluate, give the arrays themselves."
            )
        self.was_read_ahead = not announced
        self._in_epoch = announced
        return announced

    def end(self) -> None:
        self._must_be_announced = not self._in_epoch
        self._in_epoch = False
