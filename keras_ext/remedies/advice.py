"""The fix that a finding ends with, by symptom: the remedies as a user writes them in Keras."""

import math

from keras_ext._wording import sentence

_SCALE_INPUTS = "Scale the inputs to unit variance (keras.layers.Normalization)"
_DRAWN = (
    "initializers.HeNormal suits relu, initializers.GlorotUniform tanh, initializers.FanInUniform sigmoid; "
    "initializers.initialize(model, 'auto') draws all again."
)
_ADVICE = {
    "saturated": "Use relu with initializers.HeNormal, or layers.BatchNormalization before the activation.",
    "saturated/gate": (
        "Start its kernels with initializers.GlorotUniform and Orthogonal, put keras.layers.LayerNormalization before it, or clip "
        "gradients."
    ),
    "saturated/attention": (
        "Draw the kernels of query and key with initializers.GlorotUniform, and divide their products by the root of key_dim."
    ),
    "dead_relu": "Lower the learning rate, use initializers.HeNormal, or use leaky_relu.",
    "dead_relu/alike": (
        "Its other units are active on every sample, as what it is given hardly differs between samples. Check the inputs, and what "
        "averages or scales them; else lower the learning rate, use initializers.HeNormal, or use leaky_relu."
    ),
    "vanishing_gradient": "Use relu with initializers.HeNormal, BatchNormalization between the layers, or fewer layers.",
    "vanishing_gradient/zero": (
        "Check for an operation that passes none behind it (round, sign, argmax, a cast to integers, stop_gradient), then use relu with "
        "initializers.HeNormal, BatchNormalization between the layers, or fewer layers."
    ),
    "vanishing_through_time": (
        "Use layers.LSTM or GRU with unit_forget_bias=True, recurrent_initializer='orthogonal', shorter sequences, or attention over the "
        "steps."
    ),
    "exploding_through_time": (
        "Use recurrent_initializer='orthogonal', put GradientClipping around the optimizer, or shorten the sequences."
    ),
    "exploding_activation": "Scale the inputs to unit variance, start from initializers.HeNormal, and normalize residual branches.",
    "exploding_weight": "Lower the learning rate, or add weight_decay to the optimizer.",
    "zero_gradient": (
        "Check for a layer of dead or saturated units, two factors that are both zero, normalization over one number, a loss that "
        "ignores the output, and operations without a gradient (round, argmax, a threshold) in the network or the loss."
    ),
    "zero_gradient/output": (
        "Lower the learning rate tenfold, or leave the activation out and set from_logits=True in the loss, which then has a gradient."
    ),
    "unchanged_weights": (
        "Raise the learning rate, and see that the optimizer does not leave it out; in half precision small steps are lost without "
        "master_weights=True."
    ),
    "strong_decay/pressed": "Lower the regularizer's factor a hundredfold, or give the constraint the kernel's first norm or more.",
    "heavy_dropout/output": "Leave it out, or put it before the last layer that has weights.",
    "flawed_loss/reversed": "It rises as predictions get better: change its sign.",
    "flawed_loss/indifferent": (
        "It hardly tells them apart. Check its factors and its smoothing terms, and weigh each sample by how wrong its prediction is."
    ),
    "flawed_loss/unpaired": (
        "It compares each prediction with all targets. Give both one shape: (n,) minus (n, 1) is broadcast to (n, n). This is expected of "
        "a loss that compares distributions."
    ),
    "memorization": (
        "Check that inputs and targets belong together row by row, and that validation data are prepared as the others are; else take a "
        "smaller network, less varied features, or more samples."
    ),
    "target_leakage/later": (
        "Its outputs depend on later tokens than their own, which are their targets: it reads the answer, and cannot generate. Mask them: "
        "use_causal_mask=True in attention, padding='causal' in Conv1D, and no Bidirectional."
    ),
    "target_leakage/own": (
        "Its targets are the tokens that it is given at the same places: it copies them. Shift them by one: x = tokens[:, :-1], "
        "y = tokens[:, 1:]."
    ),
    "strong_decay/activity": "Lower the factor of activity_regularizer a hundredfold.",
    "strong_decay/penalty": "Lower the factor of kernel_regularizer a hundredfold.",
    "unchanged_weights/normalized": (
        "Normalization over a batch of one sample leaves nothing of it: take batches of 8 samples or more, or LayerNormalization."
    ),
    "unchanged_weights/all": "Let train_step apply the gradients of all trainable_variables to the optimizer.",
    "unchanged_weights/part": "If it is to learn, take its loss along a path without stop_gradient, and apply its gradients.",
    "constant_output/collapsed": (
        "Let the loss push different samples apart (negative samples, a variance term, stop_gradient on one side), and lower the rate."
    ),
    "invalid_ids/fractions": "An Embedding cuts fractions off. Give it whole numbers: ids as they are, neither scaled nor normalized.",
    "invalid_ids/outside": "It has no rows for these. Raise input_dim above the largest id, and count from 0.",
    "constant_output/same targets": "Check how they are read. A network can learn nothing but this number.",
    "constant_output/same inputs": "Check how they are read and scaled.",
    "constant_output": (
        f"{_SCALE_INPUTS}, lower the learning rate, and start from initializers.HeNormal with relu or initializers.GlorotUniform with tanh."
    ),
    "constant_output/recurrent": (
        "Mask padded steps (mask_zero=True in the Embedding, or a Masking layer), or pad at the front: the last state forgets what stands "
        f"before many of them. Else {_SCALE_INPUTS[0].lower()}{_SCALE_INPUTS[1:]}, and lower the learning rate."
    ),
    "constant_output/flat": (
        "Scale the inputs to unit variance, raise the learning rate, weight rare classes (class_weight), and start from HeNormal."
    ),
    "constant_output/latent": "Lower the weight of this loss, or raise it from zero over the first epochs.",
    "stalled_loss": "Raise the learning rate, check that inputs and targets belong together, and check the gradients of the first layers.",
    "stalled_loss/linear": (
        "Its layers have no activation between them, and together are one linear layer: give the hidden ones activation='relu'. Else raise "
        "the learning rate, and check that inputs and targets belong together."
    ),
    "stalled_loss/worse": "Lower the learning rate tenfold, scale the inputs, and check that inputs and targets belong together.",
    "stalled_loss/other data": (
        "Give the monitor the samples and the sample_weight that fit gets, see whether class_weight leaves a class out, and shuffle."
    ),
    "unbounded_loss": "Check the sign of each of its terms, and give it a least value: a variance, for example, needs a bound.",
    "rising_loss": "Check the sign of the loss, and lower the learning rate.",
    "poor_initialization": _DRAWN,
    "poor_initialization/embedding": "Draw them with embeddings_initializer=initializers.RandomNormal(stddev=0.05), or larger.",
    "unscaled_input": f"{_SCALE_INPUTS}.",
    "unscaled_input/placeholder": "If it means that a value is missing, write the column's median instead, and add a column that says so.",
    "unscaled_target": "Scale them to unit variance, and the predictions back.",
    "sorted_samples": "Shuffle: shuffle=True in fit, or dataset.shuffle(...).",
    "small_step/accumulation": "Lower gradient_accumulation_steps, or train for more epochs.",
    "small_step": "callbacks.LearningRateFinder(x, y).find(model).suggested is one that works.",
}


def advice(symptom: str, where: str = "") -> str:
    """Return the sentence that says what to write for a symptom; `where` is a place that has a fix of its own.

    Examples:
        >>> advice("vanishing_gradient")
        'Use relu with initializers.HeNormal, BatchNormalization between the layers, or fewer layers.'
        >>> advice("saturated", "attention") != advice("saturated")
        True
    """
    return _ADVICE[f"{symptom}/{where}" if where else symptom]


def clip(clipped: float) -> str:
    """Return what gradients that are too long ask for; `clipped` is the share of clipped steps, NaN without a GradientClipping.

    Examples:
        >>> clip(math.nan)
        'put GradientClipping around the optimizer'
    """
    if math.isnan(clipped):
        return "put GradientClipping around the optimizer"
    return f"lower the threshold of its GradientClipping, which changed {clipped:.0%} of the last steps"


def shorten(clipped: float) -> str:
    """Return the fix of `exploding_gradient`, with `clipped` as in `clip`.

    Examples:
        >>> shorten(math.nan)
        'Put GradientClipping around the optimizer, scale inputs and targets to unit variance, or lower the learning rate.'
    """
    return f"{sentence(clip(clipped))}, scale inputs and targets to unit variance, or lower the learning rate."
