"""Every optimizer and every rule of clipping, whatever it is given: a step, or an error in words."""

from fractions import Fraction

import fuzzing
import keras
import numpy as np
import pytest
from fuzzing import FLAG, NAME, SHARE, WHOLE, Fuzzed, can_be_saved, comes_back, is_moderate, refused
from hypothesis import strategies as st
from keras import ops

from keras_ext import optimizers
from keras_ext.optimizers import clipping_rules
from keras_ext.schedules import OneCycle

RATE = st.sampled_from([0.1, 0.0, np.float64(0.01)]) | st.builds(OneCycle, st.just(0.1), st.just(9))
POSITIVE = st.sampled_from([None, 0.5, 1, np.float32(2)])
EPSILON = st.sampled_from([0, 1e-7, 1.0, np.float32(0.1)])
COMMON = {
    "learning_rate": RATE,
    "weight_decay": st.sampled_from([None, 0, 0.01, np.float32(0.1)]),
    "clipnorm": POSITIVE,
    "clipvalue": POSITIVE,
    "global_clipnorm": POSITIVE,
    "use_ema": FLAG,
    "ema_momentum": SHARE,
    "ema_overwrite_frequency": st.none() | WHOLE,
    "loss_scale_factor": POSITIVE,
    "gradient_accumulation_steps": st.sampled_from([None, 2, 3, np.int64(2)]),
    "name": NAME,
    "lazy": FLAG,
    "master_weights": FLAG,
    "learning_rate_multipliers": st.sampled_from([None, {}, {"kernel": 0.5}, {"a|b": np.float32(0.5), "c": 0}]),
    "exclude_from_weight_decay": st.sampled_from([None, [], ["bias"], ("a", "@b")]),
    "exclude_norms_and_biases": FLAG,
}
NOT_LAZY = {name: strategy for name, strategy in COMMON.items() if name != "lazy"}
BELOW_1 = st.sampled_from([0, 0.5, 0.9, np.float32(0.25)])
GRADIENT = np.array([[0.5, -0.25], [1.0, 2.0], [0.125, -1.0]], "float32")


def owes_a_step(optimizer, arguments):
    if not can_be_saved({"": arguments.get("learning_rate")}):
        return
    comes_back(optimizer, arguments)
    weight = keras.Variable(np.ones((3, 2), "float32"), name="kernel")
    for _ in range(2):
        refused(lambda: optimizer.apply([ops.convert_to_tensor(GRADIENT)], [weight]))
    after = weight.numpy()
    assert after.shape == (3, 2)
    assert np.isfinite(after).all() or not is_moderate(arguments)


def owes_clipped_gradients(rule, arguments):
    comes_back(rule, arguments)
    weight = keras.Variable(np.ones((3, 2), "float32"), name="kernel")
    clipping = optimizers.GradientClipping(keras.optimizers.SGD(1.0), rule)
    for _ in range(2):
        clipping.apply([ops.convert_to_tensor(GRADIENT)], [weight])
    assert np.isfinite(weight.numpy()).all() or not is_moderate(arguments)


OPTIMIZER = st.sampled_from(["sgd", "adam"]) | st.builds(keras.optimizers.RMSprop) | st.builds(optimizers.SGD)
RULE = st.sampled_from([*clipping_rules.RULES]) | st.builds(clipping_rules.AdaptiveClipping, exclude=st.just(["bias"]))
FUZZED = {
    "SGD": Fuzzed(
        optimizers.SGD,
        {**COMMON, "momentum": SHARE, "nesterov": FLAG, "dampening": SHARE},
        owes_a_step,
        found=(
            {"learning_rate": 1e308},
            {"learning_rate": OneCycle},
            {"momentum": np.float32(0.5), "nesterov": np.bool_(True)},
            {"clipnorm": np.int64(3), "weight_decay": Fraction(1, 2)},
            {"clipvalue": 2**63},
            {"weight_decay": 2**31},
            {"loss_scale_factor": 2**31},
            {"use_ema": np.array([0.5, 1.0])},
            {"ema_momentum": np.nan},
            {"ema_momentum": np.float32(0.5)},
            {"use_ema": True, "ema_overwrite_frequency": "a"},
            {"gradient_accumulation_steps": 10**400},
            {"gradient_accumulation_steps": 2**63},
            {"exclude_from_weight_decay": True},
        ),
    ),
    "Adagrad": Fuzzed(
        optimizers.Adagrad, {**NOT_LAZY, "initial_accumulator_value": EPSILON, "epsilon": EPSILON, "epsilon_outside": FLAG}, owes_a_step
    ),
    "RMSprop": Fuzzed(
        optimizers.RMSprop,
        {**COMMON, "rho": BELOW_1, "momentum": SHARE, "epsilon": EPSILON, "centered": FLAG, "epsilon_outside": FLAG},
        owes_a_step,
    ),
    "Adam": Fuzzed(
        optimizers.Adam,
        {
            **COMMON,
            "beta_1": BELOW_1,
            "beta_2": BELOW_1,
            "epsilon": EPSILON,
            "amsgrad": FLAG,
            "epsilon_root": EPSILON,
            "bias_correction": FLAG,
        },
        owes_a_step,
        found=({"epsilon": 2**63}, {"epsilon": 2**64, "lazy": True}, {"epsilon": 2**31, "epsilon_root": 2**31}, {"epsilon": 1e308}),
    ),
    "GradientClipping": Fuzzed(
        optimizers.GradientClipping,
        {
            "optimizer": OPTIMIZER,
            "rule": RULE,
            "threshold": POSITIVE,
            "nonfinite": st.sampled_from(["skip", "zero", "raise", "propagate"]),
            "max_skips": st.none() | WHOLE,
            "name": NAME,
        },
        owes_a_step,
        ("optimizer",),
        found=({"optimizer": "nothing"}, {"optimizer": "sgd", "rule": "value", "threshold": 2**63}),
    ),
}
RULES = {
    "ClipByGlobalNorm": {},
    "ClipByNorm": {},
    "ClipByValue": {},
    "AdaptiveClipping": {"epsilon": st.sampled_from([1e-3, 1]), "exclude": st.sampled_from([None, ["kernel"], ("a",)])},
    "PercentileClipping": {"history": st.integers(2, 9)},
    "ZScoreClipping": {"decay": st.sampled_from([0.5, 0.97]), "warmup": st.integers(2, 9)},
}
FOUND = {
    "ClipByValue": ({"threshold": 2**63},),
    "AdaptiveClipping": ({"exclude": True},),
    "PercentileClipping": ({"history": 2**63},),
    "ZScoreClipping": ({"threshold": 1e308}, {"threshold": 2**63}, {"warmup": 2**31}, {"warmup": 10**400}),
}
FUZZED_RULES = {
    name: Fuzzed(getattr(clipping_rules, name), {"threshold": POSITIVE, **more}, owes_clipped_gradients, found=FOUND.get(name, ()))
    for name, more in RULES.items()
}


def test_every_optimizer_and_every_rule_has_a_strategy():
    assert sorted(FUZZED) == fuzzing.public(optimizers)
    assert sorted(FUZZED_RULES) == sorted(cls.__name__ for cls in clipping_rules.RULES.values())


def test_an_optimizer_works_or_is_refused_in_words():
    fuzzing.quick(FUZZED)


def test_a_rule_works_or_is_refused_in_words():
    fuzzing.quick(FUZZED_RULES, fuzzing.EXAMPLES // 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FUZZED, *FUZZED_RULES])
def test_an_optimizer_works_or_is_refused_in_words_whatever_it_is_given(name):
    fuzzing.deep(name, {**FUZZED, **FUZZED_RULES}[name])
