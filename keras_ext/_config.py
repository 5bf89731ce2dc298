"""The config of an object, read from the signatures of its class."""

import inspect
from typing import Any

import keras

_JSON = (type(None), bool, int, float, str, list, tuple, dict)


def config_of(thing: object, base: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    """Return `base`, and behind it each argument of the constructor that it lacks: the attribute of that name.

    Where a class of the package takes `**kwargs`, the arguments of its base come first. A user's subclass adds its own arguments in its own
    `get_config`, as to every class of Keras.

    Args:
        thing: an object of one of the package's classes, or of a user's subclass.
        base: the config that its Keras class makes.
        **values: what takes the place of attributes. What is no JSON becomes what Keras makes of it.
    """
    config = dict(base or {})
    for name in _arguments(type(thing)):
        if name not in config:
            value = values[name] if name in values else getattr(thing, name)
            config[name] = value if isinstance(value, _JSON) else keras.saving.serialize_keras_object(value)
    return config


def _arguments(cls: type) -> list[str]:
    """Return the names of a class's arguments, behind those that it passes on."""
    names: list[str] = []
    for each in cls.__mro__:
        if each.__module__.split(".")[0] == "keras_ext" and "__init__" in vars(each):
            parameters = list(inspect.signature(each.__init__).parameters.values())[1:]
            names = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)] + names
            if parameters[-1].kind is not inspect.Parameter.VAR_KEYWORD:
                break
    return names
