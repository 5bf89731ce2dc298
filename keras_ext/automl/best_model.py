"""The best network of a search: trained again if wished, saved whole, and tried on the samples that no trial saw."""

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ext._atomic import save_model
from keras_ext.automl.evaluation import Evaluation
from keras_ext.automl.precision import precision
from keras_ext.automl.preparation import Preparation
from keras_ext.automl.settings import Settings
from keras_ext.search.trial_run import seed_of_trial
from keras_ext.search.writable import reported_where_not_writable
from keras_ext.tables import conformal_radii
from keras_ext.tables.data import Split
from keras_ext.tables.data.table import joined

# What to do where the disk is full at the end of a search.
AGAIN = "All trials are kept. Make room, and go on with --resume (resume=True in Python)."


def keep_best(tuner: Any, trial: Any, prepared: Preparation, split: Split, settings: Settings, path: Path) -> Evaluation | None:
    """Save the network of the best KerasTuner `trial` as a whole model, and try it on the samples that no trial saw.

    Args:
        tuner: that ran the trial.
        trial: of the best score.
        prepared: the preparation that it was trained with.
        split: the samples.
        settings: of the search; with `refit` the network is trained again.
        path: the file to write.

    Returns:
        Its predictions for the samples of the test; None where no samples were put aside.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of optimizer state that the best model does not need
        if settings.refit:
            prepared, model = _refitted(trial, prepared, split, settings)
        else:
            model = tuner.load_model(trial)
        model = prepared.finished(model)
    evaluation = None
    if split.y_test is not None:
        assert prepared.goal is not None
        predicted = np.asarray(model.predict(prepared.inputs(split.x_test), batch_size=256, verbose=0))
        evaluation = Evaluation.of(split.y_test, predicted, prepared.classes, prepared.goal)
        radii = {} if prepared.classes else conformal_radii(evaluation.y - evaluation.predicted)
        if radii:
            model = prepared.with_intervals(model, radii)
    with reported_where_not_writable(path, AGAIN):
        save_model(model, path)
    return evaluation


def _refitted(trial: Any, prepared: Preparation, split: Split, settings: Settings) -> tuple[Preparation, keras.Model]:
    """Return the network trained on the samples of training and validation together, and what was learnt of these before it.

    It begins from the trial's own first weights and takes as many epochs as the trial's best score did, of several trainings the mean.
    """
    x, y = joined(split.x, split.x_validation), np.concatenate([split.y, split.y_validation])
    prepared = prepared.learnt_again(x, y)
    # The sizes of batches that fit depend on the samples of training alone; an epoch, and with it a schedule, has all of these.
    space = prepared.space_for(settings, split.trained)
    space.samples_of_epoch = len(y)
    hp = trial.hyperparameters
    keras.utils.set_random_seed(seed_of_trial(settings.seed, trial.trial_id))
    with precision(settings.mixed_precision):
        model = space.build(hp)
    epochs = hp.values.get("tuner/initial_epoch", 0) + trial.best_step + 1
    space.fit(hp, model, prepared.inputs(x), prepared.targets(y), epochs=epochs, verbose=0)
    return prepared, model
