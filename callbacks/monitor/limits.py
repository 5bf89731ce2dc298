"""The numbers that the rules compare with."""

from dataclasses import dataclass
from typing import Any

from keras_ext._checks import bad_argument, in_range, integer, keep

_UP_TO_ONE = (
    "saturated", "dead", "severe", "begun", "late_loss", "late_steps", "learned", "time_reach", "attention_one_hot", "heavy_dropout",
    "output_dropout",
)  # fmt: skip
_SHARES = (
    "vanishing_ratio", "vanishing_norm", "constant_output", "falling", "catching_up", "equal_weights", "oscillating_loss", "stalled_loss",
    "faint_input", "forget_gate", "strong_decay", "small_step", "collapsed_latent", "one_sided_loss", "one_sided_both", "stale_statistics",
    "settled_statistics", "flat_predictions", "slope", "sorted_samples", "training_loss_share", "collapsed_predictions", "pressed_kernel",
    "unpaired_predictions", "lost_statistics",
)  # fmt: skip
_FACTORS = ("initial_scale", "statistics_ratio", "time_gain", "grown_kernel")
_ABOVE_ZERO = (
    "exploding_gradient", "exploding_activation", "exploding_weight", "unscaled_input", "unscaled_target", "unbounded_loss", "rising_loss",
    "penalty_share", "initial_bias", "statistics_shift",
)  # fmt: skip
# And the least that each may be.
_COUNTS = {"window": 4, "slow": 1, "few_updates": 0, "trend": 3, "settled": 1, "lasting_steps": 0}


@dataclass(frozen=True)
class Limits:
    """The numbers that the rules compare with.

    Args:
        saturated: share of a hidden layer's (sample, unit) pairs that are saturated. From half on the median unit passes no gradient back
            (Glorot and Bengio 2010, section 3, show such layers).
        slope: share of the steepest slope of an activation under which a unit is saturated: beyond 4.4 of a sigmoid's input, 2.2 of tanh's.
        dead: share of a ReLU layer's units, zero on every sample of the probe, from which on it is ill: half of the layer is lost.
        vanishing_ratio: gradient norm of the first kernel over the largest, below which the first layer stands still while another learns.
        vanishing_norm: gradient norm below which the first kernel stands still: rates of .001 to .1 move a unit weight by under 1e-4.
        exploding_gradient: gradient norm that no rate in use survives: at .001 a step is as long as a weight vector of norm 1.
        exploding_activation: root mean square of a layer's output; its square overflows float16's 65,504 a hundred times over.
        exploding_weight: largest absolute weight; initial weights of unit-scale networks are under 10.
        constant_output: standard deviation over root mean square of the predictions below which they do not depend on the input.
        unscaled_input: root mean square of what the first layer is given; ten times that of unit variance (LeCun et al. 1998, section 4.3).
        faint_input: the same at the other end: pictures of 0 to 1 that are divided by 255 once more have some .002.
        unscaled_target: root mean square of the targets of a squared or absolute error; the gradient grows with it.
        initial_scale: how many times larger than He's or smaller than LeCun's and Glorot's a first kernel may be: what two such layers do
            to a signal, normalisation apart, no usual rate undoes (He et al. 2015, section 2.2: a layer keeps its variance).
        settled: steps after which the scale of a kernel is judged that normalization follows.
        initial_bias: largest absolute first bias of a hidden layer: five standard deviations of what a usual kernel makes of unit variance.
        forget_gate: root mean square of a forget gate (LSTM) or update gate (GRU) before the first step: less than this
            share of what a cell keeps is left a step later, and nothing after ten (Jozefowicz et al. 2015 start it at .73).
        time_reach: share of a recurrent layer's time steps that its gradient must reach with `vanishing_ratio` of its largest norm.
        time_gain: how many times farther than a `window` ago the gradient must reach for the layer to be on its way out of it.
        attention_one_hot: share of an attention's rows that choose one place alone before the first step: no gradient passes their softmax.
        heavy_dropout: rate of dropout from which on its noise is nine times as strong as the signal (Srivastava et al. 2014 use .2 to .5).
        strong_decay: share of each weight that one step's weight decay takes away; at 1 % a weight is gone within some hundred steps.
        small_step: how far, of its own length, the kernel that moves most must go in the steps that are planned for the loss to follow.
        few_updates: number of updates of the optimizer in the planned steps under which accumulated gradients teach a network nothing.
        trend: number of the last losses from which a slowly falling loss is extrapolated.
        stale_statistics: share of a batch normalization's first moving statistics that will be left at the end of the planned steps.
        lost_statistics: the same share from which on a network that has learned, but not in inference, is critical.
        settled_statistics: the same share below which a validation by moving statistics is taken for one of the network.
        statistics_ratio: factor between its moving variances and the data's from which on inference is another network.
        statistics_shift: standard deviations between its moving means and the data's, likewise.
        flat_predictions: standard deviation of the predictions over that of the targets, below which they are constant, of a loss that
            compares both.
        collapsed_latent: divergence of a latent from its prior, in nats, under which it says nothing of the input.
        sorted_samples: how much oftener than by chance a sample has the class of the one before, from which on the samples are sorted.
        training_loss_share: share of the probe's loss under which the loss of the last epoch's batches is another matter.
        one_sided_loss: the smaller of two logged losses over the larger, which has risen, under which one of two networks has won.
        one_sided_both: losses of a discriminator and a generator that are both under this do not compete; one that guesses has .69.
        equal_weights: standard deviation over root mean square under which the numbers of a first kernel are all alike.
        oscillating_loss: mean change of the loss from snapshot to snapshot, over what the best constant prediction costs, above which it
            swings.
        unbounded_loss: how many times as far below 0 a loss must be as some snapshots before, to have no least value.
        rising_loss: how many times its first value a loss must be that has risen for a `window` of snapshots.
        collapsed_predictions: the spread of an output over its first spread, below which all samples get the same.
        unpaired_predictions: standard deviation of the predictions over that of the targets, below which a loss of your own that does not
            pair them has made them alike.
        pressed_kernel: share of a kernel's first norm below which its own penalty or constraint has pressed it.
        penalty_share: first penalties on the weights over what the best constant prediction costs, above which they decide the training.
        grown_kernel: how many times as long as at first the middle kernel may be where the loss stands; longer ones have gone too far.
        output_dropout: rate of dropout of an output from which on predictions are mostly noise; dropout of an output always is a warning.
        late_loss: share of what the best constant prediction costs below which the loss must have been in most of the planned steps.
        late_steps: those steps, as a share of the planned ones.
        stalled_loss: share of what the best constant prediction costs within which the loss stands still.
        lasting_steps: steps for which a state must last beside `patience` to be critical, or half of the planned ones if that is fewer.
        lasting_share: share of the planned steps for which it must last as well.
        window: snapshots over which swinging and standing still are judged.
        slow: how many times `patience` a state may last from the first snapshot on while the loss falls, until it must have `learned`.
        falling: share by which the loss must have fallen below its best value before the last snapshots to count as falling.
        catching_up: the same while the loss is above that of the best constant prediction; a dozen snapshots then come from twice that.
        begun: share of what the best constant prediction costs (the first loss where that is not known) below which the network has begun
            to learn; a layer of which a part still works is then no reason to give it up.
        severe: share of saturated outputs or dead units from which on a layer stops a network that has begun to learn: a quarter works.
        learned: the share as of `begun` below which the network has learned something, if its output is not constant.
    """

    saturated: float = 0.5
    slope: float = 0.05
    dead: float = 0.5
    vanishing_ratio: float = 1e-3
    vanishing_norm: float = 1e-3
    exploding_gradient: float = 1e3
    exploding_activation: float = 1e4
    exploding_weight: float = 1e3
    constant_output: float = 1e-3
    unscaled_input: float = 10.0
    faint_input: float = 0.005
    unscaled_target: float = 100.0
    initial_scale: float = 10.0
    settled: int = 10
    initial_bias: float = 5.0
    forget_gate: float = 0.1
    time_reach: float = 0.5
    time_gain: float = 1.25
    attention_one_hot: float = 0.5
    heavy_dropout: float = 0.9
    strong_decay: float = 0.01
    small_step: float = 0.05
    few_updates: int = 10
    trend: int = 4
    stale_statistics: float = 0.5
    lost_statistics: float = 0.25
    settled_statistics: float = 0.05
    statistics_ratio: float = 4.0
    statistics_shift: float = 1.0
    flat_predictions: float = 0.02
    collapsed_latent: float = 0.05
    sorted_samples: float = 0.5
    training_loss_share: float = 0.5
    one_sided_loss: float = 1e-3
    one_sided_both: float = 0.01
    equal_weights: float = 1e-3
    oscillating_loss: float = 0.1
    unbounded_loss: float = 10.0
    rising_loss: float = 100.0
    collapsed_predictions: float = 0.01
    unpaired_predictions: float = 0.5
    pressed_kernel: float = 0.1
    penalty_share: float = 2.0
    grown_kernel: float = 3.0
    output_dropout: float = 0.5
    late_loss: float = 0.98
    late_steps: float = 0.75
    stalled_loss: float = 0.01
    lasting_steps: int = 100
    lasting_share: float = 0.1
    window: int = 6
    slow: int = 3
    falling: float = 0.01
    catching_up: float = 0.1
    begun: float = 0.95
    severe: float = 0.75
    learned: float = 0.5

    def __post_init__(self) -> None:
        for name in _UP_TO_ONE:
            keep(self, **{name: in_range(name, getattr(self, name), 0.0, 1.0, closed="right")})
        for name in _SHARES:
            keep(self, **{name: in_range(name, getattr(self, name), 0.0, 1.0, closed="neither")})
        for name in _FACTORS:
            keep(self, **{name: in_range(name, getattr(self, name), 1.0)})
        for name in _ABOVE_ZERO:
            keep(self, **{name: in_range(name, getattr(self, name), 0.0, closed="neither")})
        for name, least in _COUNTS.items():
            keep(self, **{name: integer(name, getattr(self, name), least)})
        keep(self, lasting_share=in_range("lasting_share", self.lasting_share, 0.0, 1.0))


def checked_choice(layers: Any, limits: Any) -> tuple[tuple[str, ...] | None, Limits]:
    """Return layers and limits that a user chose: names of layers, or None for all, and the usual limits for None."""
    names = tuple(layers) if isinstance(layers, list | tuple) else ()
    if layers is not None and not (names and all(isinstance(name, str) for name in names)):
        raise bad_argument("layers", "None or names of layers", layers, 'Write layers=["dense_1", "dense_2"].', TypeError)
    if limits is not None and not isinstance(limits, Limits):
        raise bad_argument("limits", "a keras_ext.callbacks.Limits or None", limits, error=TypeError)
    return names or None, limits or Limits()
