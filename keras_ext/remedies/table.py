"""The table of remedies: for each symptom of the monitor the changes that fix it, the most direct first."""

# Remedies of a cause: the findings show by themselves that they are needed. They come in this order, and before all others.
OF_CAUSES = (
    "thaw", "fit_output", "scale_inputs", "scale_outputs", "lower_dropout", "follow_statistics", "leave_out_penalties", "default_step",
    "draw_weights",
)  # fmt: skip

# Remedies of deep networks.
DEEP = ("exchange_activation", "add_skips", "normalize_layers")
REMEDIES: dict[str, tuple[str, ...]] = {
    "frozen": ("thaw",),
    "output_mismatch": ("fit_output",),
    "unscaled_input": ("scale_inputs",),
    "unscaled_target": ("scale_outputs",),
    "poor_initialization": ("draw_weights",),
    "heavy_dropout": ("lower_dropout",),
    "strong_decay": ("leave_out_penalties", "default_step"),
    "stale_statistics": ("follow_statistics",),
    "small_step": ("default_step", "find_rate"),
    "unchanged_weights": ("default_step", "find_rate"),
    "oscillating_loss": ("find_rate", "clip_gradients"),
    "saturated": (*DEEP, "draw_weights", "find_rate"),
    "dead_relu": ("find_rate", *DEEP),
    "vanishing_gradient": (*DEEP, "find_rate"),
    "zero_gradient": ("find_rate", "draw_weights", *DEEP),
    "constant_output": ("find_rate", *DEEP),
    "stalled_loss": ("find_rate", *DEEP),
    "vanishing_through_time": ("draw_weights", "find_rate"),
    "exploding_through_time": ("draw_weights", "clip_gradients", "find_rate"),
    "exploding_gradient": ("find_rate", "clip_gradients", "draw_weights", *DEEP),
    "exploding_activation": ("find_rate", "draw_weights", *DEEP, "clip_gradients"),
    "exploding_weight": ("find_rate", "clip_gradients", "draw_weights"),
    "non_finite": ("fit_output", "bound_output", "find_rate", "clip_gradients", "draw_weights", *DEEP),
}
# Changes inside a `fit`, which keep the graph and the optimizer.
INSIDE_A_FIT: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("poor_initialization", "zero_gradient"), ("draw_weights",)),
    **dict.fromkeys(("dead_relu", "saturated", "non_finite"), ("draw_weights", "lower_rate")),
    **dict.fromkeys(("exploding_gradient", "exploding_through_time"), ("clip_gradients", "lower_rate")),
    **dict.fromkeys(("exploding_weight", "exploding_activation", "oscillating_loss"), ("lower_rate",)),
    **dict.fromkeys(("small_step", "unchanged_weights"), ("raise_rate",)),
}


def remedies(symptom: str) -> tuple[str, ...]:
    """Return the names of the remedies for a symptom, the most direct first; none for a symptom that no change of the model fixes.

    Examples:
        >>> remedies("frozen")
        ('thaw',)
    """
    return REMEDIES.get(symptom, ())
