"""Methods of a model that stand in its place while it trains in a program of several trials."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_ext import _backend


@contextmanager
def own_functions(model: Any, kept: list[Any]) -> Iterator[None]:
    """Let callbacks that evaluate the model, or train it on a batch, do so with its own functions, which are `kept`, on their own data."""
    names = ("train_function", "test_function", "steps_per_execution")

    def own(method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            if kwargs.get("_use_cached_eval_dataset"):  # the validation of `fit`
                return method(*args, **kwargs)
            ours = [getattr(model, name) for name in names]
            vars(model).update(zip(names, kept, strict=True))
            try:
                return method(*args, **kwargs)
            finally:
                kept[:] = [getattr(model, name) for name in names]  # compiled now
                vars(model).update(zip(names, ours, strict=True))

        return run

    methods = ("evaluate", "train_on_batch", "test_on_batch")
    for name in methods:
        setattr(model, name, own(getattr(model, name)))
    try:
        yield
    finally:
        for name in methods:
            delattr(model, name)


@contextmanager
def saved_once(model: Any, variables: list[Any], folder: Path | None) -> Iterator[None]:
    """Write weights that are saved in `folder` while the block runs when it ends: of each file the last.

    KerasTuner saves a trial's weights in each epoch that is the best so far, and reads them when the trial is over.
    """
    waiting: dict[str, list[Any]] = {}
    save: Callable[..., None] = model.save_weights

    def save_weights(filepath: Any, *args: Any, **kwargs: Any) -> None:
        if folder is None or args or kwargs or folder not in Path(filepath).parents:
            save(filepath, *args, **kwargs)
        else:
            waiting[str(filepath)] = copies_of(variables)

    model.save_weights = save_weights
    try:
        yield
    finally:
        del model.save_weights
    last = copies_of(variables) if waiting else []
    for path, values in waiting.items():
        assign(variables, values)
        model.save_weights(path)
    if waiting:
        assign(variables, last)


def copies_of(variables: list[Any]) -> list[Any]:
    """Return the values of variables, which stay as they are."""
    return _backend.step_programs().copies(variables)


def assign(variables: list[Any], values: list[Any]) -> None:
    """Give variables values of their shapes and dtypes."""
    _backend.step_programs().assign(variables, values)
