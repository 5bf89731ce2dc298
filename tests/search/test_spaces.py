"""The search spaces: what they build trains, saves and loads, and no hyperparameter exists that its trial does not use."""

import json
import pickle

import keras
import keras_tuner
import numpy as np
import pytest

from keras_ext.search import CNN, LSTM, MLP, ImageNetworks, OptunaTuner, ResidualMLP, ResNet, Space

SAMPLES = 24


def spaces(**arguments):
    """Return one small space of each kind, with every choice that it can have."""
    small = {"samples": SAMPLES, "batch_sizes": (1, 8, "full"), "regularization": True, **arguments}
    table = {"mean": np.zeros(4), "variance": np.ones(4), "units": (4, 6), **small}
    image = {"filters": (2, 3), **small}
    return {
        "mlp": MLP((4,), max_layers=2, **table),
        "residual_mlp": ResidualMLP((4,), blocks=(1, 2), **table),
        "cnn": CNN((4, 6, 2), max_blocks=3, mean=[1.0, 2.0], variance=[1.0, 4.0], **image),
        "resnet": ResNet((3, 4), max_blocks=2, **image),
        "lstm": LSTM((5, 3), max_layers=2, units=(3, 4), **small),
        "wide_mlp": MLP((4,), max_layers=8, widths="free", wide=True, epochs=4, **table),
        "images": ImageNetworks((4, 4), max_blocks=2, max_stages=2, blocks_of_stage=2, wide=True, epochs=4, **image),
        "wide_lstm": LSTM((5, 3), max_layers=2, units=(3, 4), wide=True, epochs=4, **small),
        "lstm_of_codes": LSTM((5,), max_layers=2, units=(3, 4), vocabulary=7, embedding=(2, 3), mask_zero=True, **small),
    }


NAMES = tuple(spaces())
# Of so many choices that models of each take a minute.
WIDE = ("wide_mlp", "images", "wide_lstm")

# What these are about depends on no backend, and the others take ten seconds each to compile it.
slow_but_on_torch = () if keras.backend.backend() == "torch" else pytest.mark.slow


def data_for(space, samples=SAMPLES, seed=0):
    """Return inputs and targets for a space, a target that the inputs tell."""
    rng = np.random.default_rng(seed)
    if getattr(space, "vocabulary", None):
        x = rng.integers(1, space.vocabulary, (samples, *space.input_shape)).astype("int32")
    else:
        x = rng.normal(size=(samples, *space.input_shape)).astype("float32")
    reported = x.reshape(samples, -1).mean(axis=1)
    return x, (reported > np.median(reported)).astype("int32") if space.classes else reported.astype("float32")


def with_values(**values):
    hp = keras_tuner.HyperParameters()
    hp.values = dict(values)
    return hp


def tuned(space, tmp_path, trials, seed=1):
    oracle = keras_tuner.oracles.RandomSearchOracle(space.objective, max_trials=trials, seed=seed)
    oracle.verbose = 0
    keras_tuner.Tuner(oracle, space, directory=tmp_path, project_name=space.name)
    return oracle


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("trials", [pytest.param(6, marks=slow_but_on_torch), pytest.param(300, marks=pytest.mark.slow)])
def test_the_whole_space_is_known_before_the_first_trial_and_no_trial_holds_an_unread_value(tmp_path, name, trials):
    space = spaces(classes=3)[name]
    oracle = tuned(space, tmp_path, trials)
    for i in range(trials):
        hp = oracle.create_trial(f"tuner{i}").hyperparameters
        drawn = dict(hp.values)
        assert space.build(hp).output_shape == (None, 3)
        assert hp.values == drawn  # nothing that the trial reads was unknown
        fresh = with_values(**drawn)
        space.build(fresh)
        assert set(drawn) == {h.name for h in fresh.space if fresh.is_active(h)}  # nothing that it holds is unread


def description(space, hp):
    """Return all that a trial is made of: the network, its optimizer and the batch size of its training."""
    keras.utils.clear_session(free_memory=False)
    model, heard = space.build(hp), {}
    model.fit = lambda x, y, **kwargs: heard.update(kwargs)
    space.fit(hp, model, *data_for(space))
    return json.dumps([model.get_config(), keras.saving.serialize_keras_object(model.optimizer), heard], sort_keys=True, default=str)


@pytest.mark.parametrize("name", [pytest.param(n, marks=slow_but_on_torch if n == "cnn" else pytest.mark.slow) for n in NAMES])
def test_each_active_hyperparameter_changes_the_trial(tmp_path, name):
    space = spaces()[name]
    oracle = tuned(space, tmp_path, 30)
    left = {h.name for h in oracle.get_space().space}
    for i in range(30):
        hp = oracle.create_trial(f"tuner{i}").hyperparameters
        first = None
        for h in hp.space:
            # What others depend on is tried by the other tests: changed alone it would leave their values behind.
            if h.name not in left or not hp.is_active(h):
                continue
            first = first or description(space, with_values(**hp.values))
            assert description(space, with_values(**hp.values)) == first
            changed = with_values(**hp.values)
            changed.values[h.name] = next(v for v in h.values if v != hp.values[h.name])
            assert description(space, changed) != first, h.name
            left.remove(h.name)
    assert not left


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("lstm", 2),
        *(
            pytest.param(n, c, marks=slow_but_on_torch)
            for n, c in (("residual_mlp", 2), ("resnet", None), ("cnn", 2), ("lstm_of_codes", None))
        ),
        *(pytest.param(n, c, marks=slow_but_on_torch) for n, c in (("wide_mlp", None), ("images", 2))),
        *(pytest.param(n, c, marks=pytest.mark.slow) for n, c in (("mlp", None), ("mlp", 2), ("residual_mlp", None), ("cnn", None))),
        *(pytest.param(n, c, marks=pytest.mark.slow) for n, c in (("wide_lstm", 2), ("images", None))),
        *(pytest.param(n, c, marks=pytest.mark.slow) for n, c in (("resnet", 2), ("lstm", None), ("lstm_of_codes", 2))),
    ],
)
def test_a_search(tmp_path, name, classes):
    space = spaces(classes=classes, batch_sizes=(8,))[name]
    x, y = data_for(space)
    tuner = keras_tuner.RandomSearch(space, space.objective, max_trials=2, seed=3, directory=tmp_path, project_name=name)
    tuner.search(x, y, validation_data=data_for(space, seed=1), epochs=1, verbose=0)
    trials = tuner.oracle.get_best_trials(2)
    assert len(trials) == 2
    assert all(np.isfinite(trial.score) for trial in trials)


# The names of the choices that bring in the most kinds of layers.
RICH = {
    "mlp": {"normalization": "batch", "dropout": 0.2, "layers": 2},
    "residual_mlp": {"dropout": 0.2},
    "cnn": {"normalization": "batch", "dropout": 0.2, "regularizer": "l2"},
    "resnet": {"stages": 2, "normalization": "layer", "regularizer": "l1"},
    "lstm": {"layers": 2, "direction": "both", "dropout": 0.2, "clipping": "global_norm"},
    "lstm_of_codes": {"initializer": "orthogonal"},
    "wide_mlp": {"activation": "prelu", "layers": 8, "normalization_deep": "layer", "schedule": "one_cycle", "clipping": "zscore"},
    "images": {"network": "resnet", "activation": "prelu", "spatial_dropout": 0.2, "schedule": "cyclic", "clipping": "adaptive"},
    "wide_lstm": {"spatial_dropout": 0.2, "initializer": "variance_scaling", "schedule": "cyclic", "clipping": "percentile"},
}


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        ("mixed_bfloat16", ("cnn",)),
        *(pytest.param(p, NAMES, marks=pytest.mark.slow) for p in ("float32", "mixed_float16", "mixed_bfloat16")),
    ],
)
def test_what_is_built_trains_under_each_policy_and_loads_in_a_new_process(tmp_path, policy, names, in_new_process):
    keras.config.set_dtype_policy(policy)
    for name in names:
        space = spaces(classes=2, batch_sizes=(8,))[name]
        x, y = data_for(space)
        model = space.build(with_values(**RICH[name]))
        before = [np.array(keras.ops.convert_to_numpy(v)) for v in model.trainable_variables]
        model.train_on_batch(x, y)
        after = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
        assert all(np.isfinite(v).all() for v in after)
        # Loss scaling skips a step whose gradients overflow, here none. A warm-up would begin with a rate of 0.
        assert np.mean([np.any(a != b) for a, b in zip(after, before, strict=True)]) > 0.5
        model.save(tmp_path / f"{name}.keras")
        np.savez(tmp_path / f"{name}.npz", x=x, y=model.predict_on_batch(x))
    # Under another policy Keras drops the state of an optimizer that scales the loss, of its own models too.
    start = "keras.config.set_dtype_policy('mixed_float16')" if policy == "mixed_float16" else ""
    code = f"""
import pathlib, sys, keras, numpy as np, keras_ext
{start}
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.keras")):
    data = np.load(path.with_suffix(".npz"))
    model = keras.models.load_model(path)
    found = model.predict_on_batch(data["x"])
    scaling = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    steps = (model.optimizer.inner_optimizer if scaling else model.optimizer).iterations
    print(path.stem, found.dtype, np.abs(found - data["y"]).max() < 1e-6, int(steps))
"""
    reported = in_new_process(code, tmp_path).splitlines()
    assert reported == [f"{name} float32 True 1" for name in sorted(names)]


@pytest.mark.parametrize("name", NAMES)
def test_a_space_pickles(name):
    space = spaces()[name]
    again = pickle.loads(pickle.dumps(space))
    assert description(again, with_values(batch_size=8)) == description(space, with_values(batch_size=8))


@pytest.mark.parametrize(("size", "steps"), [(1, SAMPLES), (SAMPLES, 1)])
def test_an_epoch_has_the_steps_of_its_descent(size, steps):
    space = spaces()["mlp"]
    hp = with_values(batch_size=size)
    model = space.build(hp)
    space.fit(hp, model, *data_for(space), epochs=1, verbose=0)
    assert int(model.optimizer.iterations) == steps


@pytest.mark.parametrize(
    ("name", "layer"), [("mlp", None), ("cnn", None), ("residual_mlp", "LayerNormalization"), ("resnet", "LayerNormalization")]
)
def test_batches_of_one_sample_are_not_normalized_over_the_batch(name, layer):
    hp = with_values(batch_size=1)
    kinds = {type(made).__name__ for made in spaces()[name].build(hp).layers}
    assert "normalization" not in hp.values
    assert kinds & {"BatchNormalization", "LayerNormalization"} == ({layer} if layer else set())


# Networks against their formulas


def test_a_residual_mlp_is_the_sum_of_its_blocks():
    space = ResidualMLP((4,), units=(5,))
    model = space.build(with_values(blocks=2, activation="tanh", normalization="layer"))
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    weights = iter([w.astype("float64") for w in model.get_weights()])
    x = rng.normal(size=(7, 4))

    def dense(x, kernel, bias):
        return x @ kernel + bias

    def activated(x, gamma, beta):
        centred = x - x.mean(axis=1, keepdims=True)
        return np.tanh(centred / np.sqrt(centred.var(axis=1, keepdims=True) + 1e-3) * gamma + beta)

    def next_two():
        return next(weights), next(weights)

    expected = dense(x, *next_two())
    for _ in range(2):
        inner = dense(activated(expected, *next_two()), *next_two())
        expected = expected + dense(activated(inner, *next_two()), *next_two())
    expected = dense(activated(expected, *next_two()), *next_two())
    np.testing.assert_allclose(model.predict_on_batch(x.astype("float32")), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("images", [pytest.param((32, 32, 3), marks=slow_but_on_torch)])
def test_the_resnet_of_the_paper_has_its_weights(images):
    # 269,722 with shortcuts that have none; two projections of 16 x 32 and 32 x 64 weights, and their normalization.
    space = ResNet(images, classes=10, max_stages=3)
    model = space.build(with_values(stages=3, blocks=3, filters=16))
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == 269_722 + 16 * 32 + 32 * 64 + 2 * (32 + 64)
    assert [layer.output.shape[1:] for layer in model.layers if layer.name.endswith("_3_b")][-1] == (8, 8, 64)


def test_a_block_of_a_resnet_adds_its_input():
    model = ResNet((4, 4, 2), filters=(3,)).build(with_values(stages=2, blocks=2))
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 2)).astype("float32")
    for layer in model.layers:
        if layer.name.startswith("convolution") and layer.name.endswith("_b"):
            layer.kernel.assign(np.zeros(layer.kernel.shape))
    snapshot = keras.Model(
        model.input,
        [
            model.get_layer(n).output
            for n in ("relu_first", "relu_1_1_b", "relu_1_2_b", "relu_2_1_b", "relu_2_2_b", "convolution_2_1_projection")
        ],
    )
    first, a, b, c, d, projection = (keras.ops.convert_to_numpy(v) for v in snapshot(x))
    np.testing.assert_array_equal(a, first)
    np.testing.assert_array_equal(b, first)
    np.testing.assert_array_equal(d, c)
    np.testing.assert_allclose(c, np.maximum(projection, 0) / np.sqrt(1 + 1e-3), rtol=1e-6)
    assert c.shape == (2, 2, 2, 6)


@pytest.mark.parametrize(("shape", "most"), [((2, 2), 1), ((3, 9, 1), 1), ((4, 100), 2), ((8, 8, 3), 3), ((9, 7), 2)])
def test_no_block_pools_less_than_a_pixel(shape, most):
    space = CNN(shape, max_blocks=6, filters=(1,))
    hp = with_values(blocks=most)
    model = space.build(hp)
    assert next(h for h in hp.space if h.name == "blocks").max_value == most
    pooled = [layer.output.shape[1:3] for layer in model.layers if layer.name.startswith("pooling")]
    expected = [(shape[0] // 2**n, shape[1] // 2**n) for n in range(1, most + 1)]
    assert pooled == expected
    assert min(expected[-1]) == 1
    assert ("flat" in hp.values) == (expected[-1] != (1, 1))


@pytest.mark.parametrize(("shape", "most"), [((1, 1), 1), ((1, 9), 1), ((3, 3), 2), ((7, 12, 1), 3)])
def test_no_stage_halves_a_pixel(shape, most):
    space = ResNet(shape, max_stages=6, filters=(1,))
    hp = with_values(stages=most)
    model = space.build(hp)
    assert next(h for h in hp.space if h.name == "stages").max_value == most
    assert model.get_layer(f"sum_{most}_1").output.shape[1:3] == tuple(-(-n // 2 ** (most - 1)) for n in shape[:2])


def test_filters_double_and_the_kernel_is_the_chosen():
    model = CNN((16, 16)).build(with_values(blocks=3, filters=16, kernel=5))
    assert [w.shape for w in model.weights if len(w.shape) == 4] == [(5, 5, 1, 16), (5, 5, 16, 32), (5, 5, 32, 64)]


def test_an_lstm_passes_over_what_fills_up_its_sequences():
    space = LSTM((None,), classes=3, vocabulary=9, mask_zero=True, units=(4,))
    model = space.build(with_values(layers=2, direction="both"))
    x = np.array([[3, 1, 4, 1, 5], [2, 7, 1, 8, 2]], "int32")
    filled = np.pad(x, ((0, 0), (0, 3)))
    np.testing.assert_allclose(model.predict_on_batch(filled), model.predict_on_batch(x), rtol=1e-5, atol=1e-6)
    unmasked = LSTM((None,), classes=3, vocabulary=9, units=(4,)).build(with_values(layers=2, direction="both"))
    unmasked.set_weights(model.get_weights())
    assert np.abs(unmasked.predict_on_batch(filled) - model.predict_on_batch(filled)).max() > 1e-3


def test_an_lstm_is_its_formula():
    model = LSTM((5,), outputs=2, units=(3,)).build(with_values())
    kernel, recurrent, bias, last, offset = (w.astype("float64") for w in model.get_weights())
    x = np.random.default_rng(0).normal(size=(4, 5))
    h = c = np.zeros((4, 3))
    for t in range(5):
        i, f, z, o = np.split(x[:, t : t + 1] @ kernel + h @ recurrent + bias, 4, axis=1)
        i, f, o = (1 / (1 + np.exp(-v)) for v in (i, f, o))
        c = f * c + i * np.tanh(z)
        h = o * np.tanh(c)
    np.testing.assert_allclose(model.predict_on_batch(x.astype("float32")), h @ last + offset, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("initializer", ["xavier_uniform", "lecun_normal", "orthogonal"])
def test_each_gate_of_an_lstm_is_drawn_by_itself(initializer):
    model = LSTM((5, 32), units=(64,)).build(with_values(initializer=initializer, direction="both"))
    kernels = [w for w in model.get_weights() if w.shape == (32, 256)]
    recurrent = [w for w in model.get_weights() if w.shape == (64, 256)]
    assert len(kernels) == len(recurrent) == 2
    assert not np.allclose(kernels[0], kernels[1])
    assert not np.allclose(recurrent[0], recurrent[1])
    variance = {"xavier_uniform": 2 / (32 + 64), "lecun_normal": 1 / 32, "orthogonal": 1 / 64}[initializer]
    for gate in (g for w in kernels for g in np.split(w, 4, axis=1)):
        # The mean of 2,048 squares: within five standard errors, at most sqrt(2 / 2048) each.
        assert np.mean(gate**2) == pytest.approx(variance, rel=5 * np.sqrt(2 / 2048))
        if initializer == "orthogonal":
            np.testing.assert_allclose(gate @ gate.T, np.eye(32), atol=1e-5)
    for gate in (g for w in recurrent for g in np.split(w, 4, axis=1)):
        np.testing.assert_allclose(gate.T @ gate, np.eye(64), atol=1e-5)


@pytest.mark.parametrize("shape", [(), (3,), (1, 1, 3), (4, 5, 1), (4, 1, 3), (4, 5, 3)])
def test_images_are_normalized_by_pixel_channel_or_as_a_whole(shape):
    rng = np.random.default_rng(0)
    mean, variance, x = rng.normal(size=shape), rng.uniform(0.5, 2, size=shape), rng.normal(size=(2, 4, 5, 3))
    for space in (CNN((4, 5, 3), mean=mean, variance=variance), MLP((4, 5, 3), mean=mean, variance=variance)):
        model = space.build(with_values())
        normalized = keras.Model(model.input, model.layers[1].output)(x.astype("float32"))
        expected = (x - mean) / np.sqrt(variance)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(normalized), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in WIDE else n for n in NAMES])
def test_a_space_knows_which_hyperparameters_change_the_program(tmp_path, name):
    space = spaces(batch_sizes=(8, 16))[name]
    tuner = OptunaTuner(lambda hp: space.build(hp), "loss", directory=tmp_path)
    # By building models, which know no size of a batch but in a schedule.
    found = tuner.oracle.structure_names()
    known = {hp.name for hp in tuner.oracle.get_space().space}
    assert {*found, "batch_size"} == {name for name in known if space.changes_structure(name)}
    assert set(OptunaTuner(space, "loss", directory=tmp_path / "own").oracle.structure_names()) == {*found, "batch_size"}


def test_a_space_of_ones_own():
    class Averages(Space):
        def body(self, hp, x):
            return keras.layers.GlobalAveragePooling1D()(x) if hp.Boolean("average") else keras.layers.Flatten()(x)

    space = Averages((6, 2), classes=2, samples=SAMPLES, name="averages")
    hp = with_values(average=True)
    model = space.build(hp)
    assert model.count_params() == 6
    assert list(hp.values)[:3] == ["average", "batch_size", "optimizer"]
    space.fit(hp, model, *data_for(space), verbose=0)
    with pytest.raises(TypeError, match="abstract"):
        Space((4,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CNN((1, 8)), "`input_shape` must be of images at least 2 pixels high and wide, got (1, 8)."),
        (lambda: CNN((8,)), "`input_shape` must be (height, width, channels) or (height, width), got (8,)."),
        (lambda: CNN((8, 8), kernels=()), "`kernels` must be a sequence of positive whole numbers, got ()."),
        (lambda: ResNet((8, None)), "`input_shape` must be a sequence of positive whole numbers, got (8, None)."),
        (lambda: ResNet((8, 8), max_stages=0), "`max_stages` must be a whole number of at least 1, got 0."),
        (lambda: ResidualMLP((4,), blocks=(0,)), "`blocks` must be a sequence of positive whole numbers, got (0,)."),
        (
            lambda: ResidualMLP((4,), activations=("relu6",)),
            "`activations` must be a sequence of some of 'relu', 'leaky_relu', 'selu', 'tanh', 'sigmoid', 'gelu', 'silu', 'prelu', "
            "got ('relu6',).",
        ),
        (lambda: LSTM((5, 3, 2)), "`input_shape` must be (time, features) or (time,), got (5, 3, 2)."),
        (lambda: LSTM((5, None)), "`input_shape` must be a sequence of positive whole numbers, got [5, None]."),
        (lambda: LSTM((5, 3), vocabulary=10), "`input_shape` must be (time,) with `vocabulary`, got (5, 3)."),
        (lambda: LSTM((5,), vocabulary=1), "`vocabulary` must be a whole number of at least 2, got 1."),
        (
            lambda: LSTM((5,), vocabulary=10, mean=0.0, variance=1.0),
            "`mean` and `variance` cannot be given with `vocabulary`: codes are no quantities. Leave them out.",
        ),
        (
            lambda: LSTM((5, 3), mask_zero=True),
            "`mask_zero` must be False without `vocabulary`, got True. Numbers have no code to fill sequences up with.",
        ),
        (
            lambda: CNN((4, 4, 3), mean=np.zeros(4), variance=np.ones(4)),
            "`mean` must be an array whose shape broadcasts to `input_shape`, (4, 4, 3), got (4,).",
        ),
        (
            lambda: LSTM((None, 3), mean=np.zeros(3), variance=np.ones((5, 3))),
            "`variance` must be an array whose shape broadcasts to `input_shape`, (None, 3), got (5, 3).",
        ),
        (
            lambda: MLP((4,), samples=9, batch_sizes=("half",)),
            "`batch_sizes` must be a sequence of positive whole numbers and \"full\", got ('half',).",
        ),
        (lambda: MLP((4,), regularization="l2"), "`regularization` must be True or False, got 'l2'."),
    ],
)
def test_bad_arguments_of_a_space_are_reported(make, message):
    with pytest.raises(ValueError) as raised:
        make()
    assert str(raised.value) == message


@pytest.mark.parametrize("clipping", ["none", "global_norm"])
def test_full_batch_descent_keeps_so_many_samples_in_memory(clipping):
    """One step an epoch, along the gradient that one batch of all samples has."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 4)).astype("float32"), rng.integers(0, 3, 50)
    found = {}
    for micro_batch in (16, 64):
        seen = []

        class Noting(MLP):
            def body(self, hp, x, seen=seen):
                return super().body(hp, keras.layers.Lambda(lambda t: seen.append(t.shape[0]) or t)(x))

        keras.utils.set_random_seed(0)
        space = Noting((4,), classes=3, samples=50, batch_sizes=("full",), micro_batch=micro_batch)
        hp = keras_tuner.HyperParameters()
        hp.values = {"clipping": clipping, "clipping_threshold_global_norm": 0.1, "learning_rate_adam": 0.01}
        model = space.build(hp)
        model.run_eagerly = True
        del seen[:]
        space.fit(hp, model, x, y, epochs=2, shuffle=False, verbose=0, validation_data=(x, y))
        assert int(model.optimizer.iterations) == 2
        # Parts of 13 in training, and batches of `micro_batch` in validation.
        assert {n for n in seen if n} == ({13, 16, 2} if micro_batch == 16 else {50})
        found[micro_batch] = [keras.ops.convert_to_numpy(w) for w in model.trainable_variables]
    for a, b in zip(found[16], found[64], strict=True):
        # Sums in another order, and Adam's first steps are as large as the rate whatever the gradient's size: .01 * 2^-24 * some hundreds.
        np.testing.assert_allclose(a, b, atol=2e-6)


@pytest.mark.parametrize(("held_out", "sizes"), [(8, [8]), (33, [17, 16]), (40, [20, 20])])
def test_validation_takes_equal_batches_of_up_to_four_times_those_of_training(held_out, sizes):
    space = MLP((4,), classes=2, samples=SAMPLES, batch_sizes=(4, 8))
    hp = keras_tuner.HyperParameters()
    model = space.build(hp)
    batches = {"train": 0, "test": 0}

    class Counting(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            batches["train"] += 1

        def on_test_batch_end(self, batch, logs=None):
            batches["test"] += 1

    x, y = data_for(space)
    unseen = data_for(space, held_out, seed=1)
    space.fit(hp, model, x, y, epochs=1, verbose=0, validation_data=unseen, callbacks=[Counting()])
    assert batches == {"train": SAMPLES / 4, "test": len(sizes)}
    own = space.fit(hp, model, x, y, epochs=1, verbose=0, validation_data=unseen, validation_batch_size=3).history["val_loss"][0]
    assert own == pytest.approx(model.evaluate(*unseen, verbose=0)[0], rel=1e-5)
