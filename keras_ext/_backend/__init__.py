"""The only package that imports TensorFlow, JAX or PyTorch.

Its rules:

1. One file per framework, named after it, with the same functions of the same signatures; `tests/test_house.py` compares them.
2. Only the file of the backend that Keras runs on is imported, so that no other framework need be installed.
3. What `keras.ops` can do stays outside; a function stands here because it needs the framework itself.
4. Private names of Keras that the package needs stand in `keras_private.py`, each with its reason.

What a function promises on every backend stands in `tensorflow.py`; the other files say what is different there.
"""

# ruff: noqa: F403 (the first rule says which names these are)

import importlib
from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING or keras.backend.backend() == "tensorflow":
    from keras_ext._backend.tensorflow import *
elif keras.backend.backend() == "jax":
    from keras_ext._backend.jax import *
elif keras.backend.backend() == "torch":
    from keras_ext._backend.torch import *
else:
    raise ImportError(
        f"keras_ext runs on the TensorFlow, JAX and PyTorch backends of Keras, got KERAS_BACKEND={keras.backend.backend()!r}. "
        "Set KERAS_BACKEND to tensorflow, jax or torch before the first import of keras."
    )


def framework_version() -> str:
    """Return the framework's name and version."""
    name = keras.backend.backend()
    return f"{name} {importlib.import_module(name).__version__}"
