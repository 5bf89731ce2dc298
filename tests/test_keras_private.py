"""The private names of Keras that the package leans on still mean what they meant."""

import contextlib
import functools
import json
import types
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest
from keras import ops

import keras_ext
from keras_ext._backend import keras_private


def test_the_own_trainable_weights_of_a_layer_are_there_when_it_is_frozen():
    model = keras.Sequential([keras.Input((3,)), keras.Sequential([keras.layers.Dense(2)]), keras.layers.BatchNormalization()])
    model.trainable = False
    inner, norm = model.layers
    assert [v.path.split("/")[-1] for v in keras_private.own_trainable_variables(norm)] == ["gamma", "beta"]
    assert [v.path.split("/")[-1] for v in keras_private.own_trainable_variables(inner.layers[0])] == ["kernel", "bias"]
    assert keras_private.own_trainable_variables(inner) == []


def test_flatten_layers_finds_layers_inside_layers_parents_first():
    class Block(keras.layers.Layer):
        def __init__(self):
            super().__init__(name="block")
            self.parts = [keras.layers.Dense(2, name="a"), keras.layers.Dense(2, name="b")]

        def call(self, x):
            return self.parts[1](self.parts[0](x))

    model = keras.Sequential([keras.Input((3,)), Block(), keras.layers.Dense(1, name="c")])
    names = [layer.name for layer in keras_private.flatten_layers(model)]
    assert {"block", "a", "b", "c"} <= set(names)
    assert names.index("block") < min(names.index("a"), names.index("b"))
    assert model.name not in names


class _Holder(keras.layers.Layer):
    """A layer with layers, a metric and a generator in plain attributes, and no config."""

    def __init__(self, function):
        super().__init__(name="holder")
        self.function = function
        self.parts = [keras.layers.Dense(3, name="a"), {"b": keras.layers.Dropout(0.5, seed=1)}]
        self.net = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(2, name="c")])
        self.mean = keras.metrics.Mean(name="mean")

    def call(self, x):
        return self.net(self.parts[1]["b"](self.parts[0](self.function(x))))


def test_a_deep_copy_computes_the_same_and_shares_no_variable():
    layer = _Holder(lambda x: 2 * x)
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    given = keras.Input((4,))
    model = keras.Model(given, layer(given))
    layer.mean.update_state(3.0)
    copy = keras_private.deep_copy(layer)
    pairs = list(zip(layer.variables, copy.variables, strict=True))
    assert len(pairs) == 9
    assert all(a is not b and a.path == b.path for a, b in pairs)
    assert [type(a) for a in keras_private.flatten_layers(copy)] == [type(a) for a in keras_private.flatten_layers(layer)]
    assert {id(a) for a in keras_private.flatten_layers(copy)}.isdisjoint(id(a) for a in keras_private.flatten_layers(layer))
    other = keras.Model(given, copy(given))  # the copy is in a graph of its own
    assert other.layers[-1] is copy
    expected = ops.convert_to_numpy(model(x))
    np.testing.assert_array_equal(ops.convert_to_numpy(other(x)), expected)
    assert (copy.mean is not layer.mean, float(copy.mean.result())) == (True, 3.0)
    other.compile("sgd", "mse")
    other.fit(x, np.ones((8, 2)), verbose=0)
    assert not np.array_equal(ops.convert_to_numpy(other(x)), expected)
    np.testing.assert_array_equal(ops.convert_to_numpy(model(x)), expected)


def test_a_deep_copy_of_a_compiled_model_is_not_compiled_and_trains_by_itself():
    class Own(keras.Model):
        def __init__(self, held):
            super().__init__()
            self.held = held
            self.out = keras.layers.Dense(1)

        def call(self, x):
            return self.out(x)

    model = Own(object())
    x = np.ones((8, 4), "float32")
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(x, x[:, :1], verbose=0)
    copy = keras_private.deep_copy(model)
    assert (model.compiled, copy.compiled) == (True, False)
    kept = model.get_weights()
    copy.compile("sgd", "mse")
    copy.fit(x, x[:, :1], verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(kept, model.get_weights(), strict=True))
    assert not np.array_equal(kept[0], copy.get_weights()[0])
    model.fit(x, x[:, :1], verbose=0)


def test_variable_index_is_the_place_in_the_build_list():
    variables = [keras.Variable([float(i)]) for i in range(3)]
    optimizer = keras.optimizers.SGD()
    optimizer.build(variables)
    assert [keras_private.variable_index(optimizer, v) for v in variables] == [0, 1, 2]


def test_source_of_is_the_first_input_through_sequential_residual_and_nested_models():
    first, second = keras.Input((3,), name="first"), keras.Input((3,), name="second")
    start = first._keras_history.operation
    assert isinstance(start, keras.layers.InputLayer)
    assert start.output is first
    assert keras_private.source_of(first) is start
    dense = keras.layers.Dense(3)
    residual = dense(first)
    for _ in range(40):
        residual = keras.layers.add([residual, dense(residual)])
    assert keras_private.source_of(residual) is start
    assert keras_private.source_of(dense(second)).output is second
    assert keras_private.source_of(ops.tanh(first + second)) is start
    assert keras_private.source_of(keras.layers.concatenate([second, residual])) is second._keras_history.operation

    sequential = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    own = keras_private.source_of(sequential.outputs[0])
    assert own.output is sequential.inputs[0]
    functional = keras.Model(first, residual)
    for inner in (sequential, functional):
        assert keras_private.source_of(inner(keras.layers.Activation("relu")(second))).output is second
    assert keras_private.source_of(sequential.outputs[0]) is own

    seen = []

    class Snapshot(keras.layers.Layer):
        def __call__(self, inputs):
            seen.append(keras_private.source_of(inputs))
            return super().__call__(inputs)

        def call(self, inputs):
            return inputs

    late = keras.Sequential([keras.layers.Dense(3), Snapshot()])
    late(np.ones((2, 3), "float32"))
    assert [source for source in seen if source is not None] == [late.inputs[0]._keras_history.operation]
    for other in (np.ones(3), ops.ones((3,)), keras.KerasTensor((2, 3)), [first], None, 1.5):
        assert keras_private.source_of(other) is None


def test_a_variable_that_is_overwritten_by_its_gradient_says_so():
    v = keras.Variable(ops.ones((2,)))
    assert keras_private.overwrites_with_gradient(v) is False
    v.overwrite_with_gradient = True
    assert keras_private.overwrites_with_gradient(v) is True


def test_oracle_tuner_and_trial_save_through_the_function_that_is_replaced(tmp_path):
    paths = []

    def build(hp):
        hp.Choice("a", [1, 2])
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    tuner = keras_tuner.RandomSearch(build, "loss", max_trials=1, directory=tmp_path, project_name="p")
    with keras_private.keras_tuner_saves_json_with(lambda path, content: paths.append(Path(path).name) or json.dumps(content)):
        tuner.search(ops.ones((4, 1)), ops.ones((4, 1)), verbose=0)
    assert set(paths) == {"oracle.json", "tuner0.json", "trial.json", "build_config.json"}
    assert not list(tmp_path.rglob("oracle.json"))
    tuner.save()
    assert list(tmp_path.rglob("oracle.json"))


def test_searches_in_threads_end_in_any_order_and_leave_the_function_as_it_was(tmp_path):
    from keras_tuner.src import utils

    own, heard = utils.save_json, []
    first = keras_private.keras_tuner_saves_json_with(lambda path, content: heard.append("first"))
    second = keras_private.keras_tuner_saves_json_with(lambda path, content: heard.append("second"))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    utils.save_json(str(tmp_path / "a"), {})
    second.__exit__(None, None, None)
    assert heard == ["second"]
    assert utils.save_json is own


def test_functional_models_are_reported_from_subclassed_ones():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    x = keras.Input((2,))
    assert keras_private.is_functional_or_sequential(keras.Sequential())
    assert keras_private.is_functional_or_sequential(keras.Model(x, x))
    assert not keras_private.is_functional_or_sequential(Subclassed())
    assert not keras_private.is_functional_or_sequential(keras.layers.Dense(1))


def test_lambdas_are_trusted_inside_the_context_alone():
    layer = keras.layers.Lambda(lambda x: x + 1)
    with keras_private.trusts_lambdas():
        keras.layers.Lambda.from_config(layer.get_config())
    with pytest.raises(ValueError, match="safe_mode"):
        keras.layers.Lambda.from_config(layer.get_config())


def test_producers_are_what_an_operation_was_called_on():
    first, second = keras.Input((3,)), keras.Input((3,))
    dense = keras.layers.Dense(3)
    total = ops.add(dense(first), dense(second))
    adder = keras_private.operation_of(total)
    assert list(keras_private.producers_of(adder)) == [dense, dense]
    assert list(keras_private.producers_of(dense)) == [keras_private.operation_of(first), keras_private.operation_of(second)]


@pytest.mark.parametrize("policy", ["mixed_float16", "float32"])
def test_without_autocast_a_variable_is_itself_inside_a_layers_call(policy):
    class Halves(keras.layers.Dense):
        def call(self, x):
            with keras_private.without_autocast():
                assert keras.backend.standardize_dtype(ops.convert_to_tensor(self.kernel).dtype) == "float32"
                self.kernel.assign(self.kernel / 2)
            return super().call(x)

    layer = Halves(2, dtype=policy, kernel_initializer="ones")
    layer(np.ones((1, 2), "float32"))
    np.testing.assert_array_equal(ops.convert_to_numpy(layer.kernel), 0.5)


def test_the_update_of_all_weights_at_once_is_one_method():
    seen = []

    class Watched(keras_ext.optimizers.SGD):
        def _backend_update_step(self, grads, trainable_variables, learning_rate):
            seen.append((len(list(grads)), len(list(trainable_variables))))
            super()._backend_update_step(grads, trainable_variables, learning_rate)

    weights = [keras.Variable([1.0]), keras.Variable([2.0])]
    Watched(0.5).apply([ops.convert_to_tensor([1.0]), ops.convert_to_tensor([2.0])], weights)
    assert seen == [(2, 2)]
    assert [float(ops.convert_to_numpy(w)[0]) for w in weights] == [0.5, 1.0]


@pytest.mark.parametrize(
    "name",
    [
        "_backend_update_step",
        "_backend_apply_gradients",
        "_apply_weight_decay",
        "_clip_gradients",
        "_overwrite_model_variables_with_average_value",
    ],
)
def test_keras_calls_the_places_that_our_optimizers_fill(name):
    called = []

    class Watched(keras.optimizers.SGD):
        pass

    def place(self, *arguments):
        called.append(name)
        return getattr(super(Watched, self), name)(*arguments)

    setattr(Watched, name, place)
    optimizer = Watched(0.1, weight_decay=0.1, clipnorm=1.0, use_ema=True)
    variable = keras.Variable([1.0, 2.0])
    optimizer.apply([ops.convert_to_tensor([1.0, 1.0])], [variable])
    optimizer.finalize_variable_values([variable])
    assert called == [name]


def test_what_an_optimizer_knows_without_a_public_name():
    kernel, bias = keras.Variable([[1.0]], name="kernel"), keras.Variable([1.0], name="bias")
    optimizer = keras.optimizers.Adam(lambda: 0.5, weight_decay=0.1, gradient_accumulation_steps=2)
    optimizer.exclude_from_weight_decay(var_list=[bias])
    assert keras_private.rate_function(optimizer)["learning_rate"]() == 0.5
    with pytest.raises(ValueError, match="Build it first"):
        keras_private.excluded_from_weight_decay(optimizer)
    optimizer.build([kernel, bias])
    assert keras_private.trainable_variables(optimizer) == [kernel, bias]
    assert [v.path for v in keras_private.excluded_from_weight_decay(optimizer)[0]] == [bias.path]
    assert [tuple(v.shape) for v in optimizer._accumulated_gradients] == [(1, 1), (1,)]
    other = keras.optimizers.Adam(0.5)
    assert keras_private.rate_function(other) == {}
    other.exclude_from_weight_decay(var_names=["bias"])
    assert keras_private.excluded_from_weight_decay(other) == ([], ["bias"])


def counted(trial):
    """Return the score of a trial; it fails where the number is odd, and is no trial's fault at 4."""
    number = trial.hyperparameters.get("number")
    if number % 2:
        raise keras_tuner.errors.FailedTrialError("odd")
    if number == 4:
        raise ValueError("four")
    return {"score": float(number)}


def test_keras_tuner_records_what_a_trial_returns_or_raises(tmp_path):
    score = keras_tuner.Objective("score", "min")
    space = {"max_trials": 6, "seed": 1, "directory": tmp_path, "max_consecutive_failed_trials": 9}
    tuner = keras_tuner.RandomSearch(lambda hp: hp.Int("number", 0, 5), score, **space)
    tuner.oracle.verbose = 0
    while (trial := tuner.oracle.create_trial("t")).status == "RUNNING":
        keras_private.keras_tuner_records(tuner, trial, functools.partial(counted, trial))
        tuner.oracle.end_trial(trial)
    found = {t.hyperparameters.get("number"): (t.status, t.score) for t in tuner.oracle.trials.values()}
    assert found == {n: ("FAILED", None) if n % 2 or n == 4 else ("COMPLETED", float(n)) for n in range(6)}
    with pytest.raises(keras_tuner.errors.FatalTypeError):
        keras_private.keras_tuner_records(tuner, tuner.oracle.trials["0"], lambda: None)


def test_the_arguments_of_compile_are_those_that_were_given():
    model, metric = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), keras.metrics.MeanAbsoluteError()

    def loss(y, p):
        return ops.mean(ops.square(y - p))

    model.compile("sgd", loss, metrics=[metric])
    given = keras_private.compile_arguments(model)
    assert given["loss"] is loss
    assert given["metrics"] == [metric]


def test_an_optimizer_keeps_the_schedule_that_it_was_given():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 5)
    assert keras_private.rate_of(keras.optimizers.SGD(schedule)) is schedule
    assert keras_private.rate_of("sgd") is None


def test_a_loss_hands_its_arguments_to_its_function():
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.5)
    (arguments,) = keras_private.arguments_of_loss(loss)
    assert arguments["label_smoothing"] == 0.5
    prediction = ops.convert_to_tensor([[0.25, 0.75]])
    before = float(loss(ops.ones((1, 2)), prediction))
    arguments["label_smoothing"] = 0.9
    assert float(loss(ops.ones((1, 2)), prediction)) != before
    assert keras_private.arguments_of_loss("mse") == []


def test_a_held_state_is_among_the_variables_and_in_no_file(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    weights = list(model.weights)
    state = keras.Variable([0.0], trainable=False)
    keras_private.held_states(model).append(types.SimpleNamespace(state=state))
    assert any(v is state for v in model.non_trainable_variables)
    assert [id(v) for v in model.weights] == [id(v) for v in weights]
    model.save(tmp_path / "model.keras")
    assert len(keras.models.load_model(tmp_path / "model.keras").variables) == 2


def test_metrics_are_built_from_a_batch():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    assert not keras_private.has_built_metrics(model)
    keras_private.build_metrics(model, (np.zeros((3, 2), "float32"), np.zeros((3, 1), "float32")))
    assert keras_private.has_built_metrics(model)
    assert model.get_metrics_result().keys() == {"loss", "mae"}


def test_arrays_are_cast_and_weighted_as_fit_does_it():
    x, y, weights = keras_private.arrays_of_fit({"a": np.zeros((4, 2))}, np.array([0, 1, 1, 0]), None, {0: 1.0, 1: 3.0})
    assert (x["a"].dtype.name, weights.tolist()) == ("float32", [1.0, 3.0, 3.0, 1.0])
    assert y.tolist() == [0, 1, 1, 0]
    assert keras_private.arrays_of_fit((n for n in range(3)), None, None, None) is None


@pytest.mark.needs_tensorflow
def test_places_are_shuffled_as_fit_shuffles_samples():
    seen = []

    class Remembers(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            seen.extend(data[1].numpy().tolist())
            return super().train_step(data)

    keras.utils.set_random_seed(7)
    model = Remembers()
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(np.zeros((10, 1)), np.arange(10.0), batch_size=4, epochs=1, verbose=0)
    keras.utils.set_random_seed(7)
    places = next(iter(keras_private.shuffled_places(10))).numpy().tolist()
    assert places == seen != sorted(seen)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX keeps the state of a training beside the model")
def test_a_state_of_a_training_is_shown_to_callbacks():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(), "mse")
    model.optimizer.build(model.trainable_variables)
    callback = keras.callbacks.Callback()
    callback.set_model(model)
    state = ([ops.convert_to_tensor([[5.0]])], [], [v.value for v in model.optimizer.variables], [v.value for v in model.metrics_variables])
    with keras_private.state_shown(model, state):
        assert float(callback.model.weights[0].numpy()[0, 0]) == 5.0
    assert not model._jax_state_synced


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX keeps the state of a training beside the model")
def test_the_state_of_a_training_comes_back_as_keras_brings_it():
    class Reads(keras.callbacks.Callback):
        """Keeps all variables where `fit` shows them."""

        def on_epoch_end(self, epoch, logs=None):
            model = self.model
            self.seen = [np.array(v.value) for v in (*model.weights, *model.optimizer.variables, *model.metrics_variables)]

    def trained(context):
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)])
        model.compile("adam", "mse", metrics=["mae"])
        model.fit(np.ones((6, 4)), np.ones((6, 3)), verbose=0)
        reads = Reads()
        with context(model):
            model.fit(np.ones((6, 4)), np.ones((6, 3)), epochs=2, validation_split=0.5, callbacks=[reads], verbose=0)
            model.layers[0].trainable = False  # the state has other lists now
            model.compile("adam", "mse", metrics=["mae"])
            model.fit(np.ones((6, 4)), np.ones((6, 3)), verbose=0)
        return [*reads.seen, *model.get_weights()], model

    (ours, model), (theirs, _) = trained(keras_private.state_brought_back), trained(lambda model: contextlib.nullcontext())
    assert len(ours) > 20
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, other)
    assert "jax_state_sync" not in vars(model)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="PyTorch's loaders alone")
def test_a_loader_draws_from_the_generator_as_fit_does():
    import torch

    seen = []

    class Remembers(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(torch.get_rng_state().tolist())

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    for size in (4, 10):
        torch.manual_seed(7)
        model.fit(np.zeros((10, 1)), np.zeros((10, 1)), batch_size=size, verbose=0, callbacks=[Remembers()])
        torch.manual_seed(7)
        if len(seen) == 1:  # the first fit builds the metrics from a first batch
            next(iter(keras_private.torch_loader(10, 4, True)))
        list(keras_private.torch_loader(10, 10, True))
        iter(keras_private.torch_loader(10, 10, True))  # as an epoch ends, the next one begins
        assert torch.get_rng_state().tolist() == seen[-1]


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="PyTorch's branches alone")
def test_optimizers_branch_with_the_given_function():
    asked = []

    def cond(condition, if_true, if_false):
        asked.append(bool(condition))
        return if_true() if condition else if_false()

    optimizer = keras.optimizers.SGD(1.0, gradient_accumulation_steps=2)
    w = keras.Variable([0.0])
    optimizer.build([w])
    with keras_private.torch_cond(cond):
        for _ in range(2):
            optimizer.apply([ops.convert_to_tensor([1.0])], [w])
    optimizer.apply([ops.convert_to_tensor([1.0])], [w])
    assert asked == [False, True]
    assert float(w.numpy()[0]) == -1.0


def test_a_step_calls_the_model_and_counts_its_loss_as_fit_does():
    class Knows(keras.layers.Layer):
        def call(self, x, training=False):
            return x + 1.0 if training else x

    for layer, answer in ((Knows(), 2.0), (keras.layers.Identity(), 1.0)):
        model = keras.Sequential([keras.Input((1,)), layer])
        model.compile("sgd", "mse")
        assert float(keras_private.call_of_step(model, np.ones((1, 1)), True)[0, 0]) == answer
        assert keras_private.loss_tracker(model) in model.metrics
        model.evaluate(np.ones((1, 1)), np.zeros((1, 1)), verbose=0)
        assert float(keras_private.loss_tracker(model).result()) == 1.0


def test_a_session_comes_back_after_another_was_cleared():
    keras.backend.clear_session()
    names = [keras.layers.Dense(1).name]
    kept = keras_private.session()
    keras.backend.clear_session()
    names.append(keras.layers.Dense(1).name)
    keras_private.set_session(kept)
    names.append(keras.layers.Dense(1).name)
    assert names == ["dense", "dense", "dense_1"]


def test_a_tuner_with_a_loop_of_its_own_is_known(tmp_path):
    class Own(keras_tuner.RandomSearch):
        def _run_and_update_trial(self, *args, **kwargs):
            super()._run_and_update_trial(*args, **kwargs)

    for kind, has in ((keras_tuner.RandomSearch, True), (keras_tuner.Hyperband, True), (Own, False)):
        assert keras_private.has_keras_tuners_loop(kind(lambda hp: None, "loss", directory=tmp_path)) is has


def test_a_worker_has_the_oracle_that_it_was_made_with_and_no_loop_alone(tmp_path, monkeypatch):
    pytest.importorskip("grpc", reason="KerasTuner's workers talk to their chief through it")
    names = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": "1"}
    assert not keras_private.is_distributed()
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    for role in ("chief", "worker0"):
        monkeypatch.setenv("KERASTUNER_TUNER_ID", role)
        tuner = keras_tuner.GridSearch(lambda hp: None, "loss", seed=7, directory=tmp_path / role)
        assert isinstance(tuner.oracle, keras_tuner.Oracle) == (role == "chief")
        assert keras_private.own_oracle(tuner).seed == 7
        assert keras_private.is_distributed()
        assert not keras_private.has_keras_tuners_loop(tuner)


def test_a_scope_may_depend_on_what_was_chosen_before_the_scopes_around_it(tmp_path):
    def build(hp):
        kind, activation = hp.Choice("kind", ["a", "b"]), hp.Choice("activation", ["relu", "tanh"])
        for option in ("a", "b"):
            with keras_private.conditional_scope(hp, "kind", [option]):
                if kind == option:
                    for name in ("relu", "tanh"):
                        with keras_private.conditional_scope(hp, "activation", [name]):
                            if activation == name:
                                hp.Choice(f"slope_{name}", [1, 2])
        assert hp._conditions == []

    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["a"])
    with hp.conditional_scope("kind", ["a"]), pytest.raises(ValueError, match="not defined"), hp.conditional_scope("other", ["a"]):
        pass
    # KerasTuner finds every hyperparameter, each under both of its conditions.
    tuner = keras_tuner.RandomSearch(build, "loss", directory=tmp_path)
    found = {(each.name, tuple((c.name, *c.values) for c in each.conditions)) for each in tuner.oracle.get_space().space}
    slopes = {(f"slope_{name}", (("kind", kind), ("activation", name))) for name in ("relu", "tanh") for kind in ("a", "b")}
    assert found == {("kind", ()), ("activation", ())} | slopes
