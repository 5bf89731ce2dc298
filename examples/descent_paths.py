"""The paths of four optimizers from one start through the bent valley of Rosenbrock and the plain of Beale.

    python examples/descent_paths.py

Draws docs/pictures/descent_paths.png and prints where each path ends.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import matplotlib
import numpy as np
from keras import ops
from matplotlib.axes import Axes

from keras_ext.optimizers import SGD, Adagrad, Adam, RMSprop

matplotlib.use("Agg")
import matplotlib.pyplot as plt

STEPS = 1000
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "descent_paths.png"


@dataclass(frozen=True)
class Surface:
    """A function of a point, its gradient, its minimum, and the frame and rates for the picture."""

    height: Callable[[np.ndarray], np.ndarray]
    gradient: Callable[[np.ndarray], np.ndarray]
    start: tuple[float, float]
    minimum: tuple[float, float]
    frame: tuple[float, float, float, float]  # left, right, bottom, top
    sgd_rate: float  # the curvature bounds it; the other three scale their steps by themselves


def rosenbrock(w: np.ndarray) -> np.ndarray:
    """Return (1 - x)^2 + 100 (y - x^2)^2."""
    x, y = w
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def rosenbrock_gradient(w: np.ndarray) -> np.ndarray:
    """Return the derivatives by x and y."""
    x, y = w
    return np.array([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)])


def beale(w: np.ndarray) -> np.ndarray:
    """Return (1.5 - x + x y)^2 + (2.25 - x + x y^2)^2 + (2.625 - x + x y^3)^2."""
    x, y = w
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def beale_gradient(w: np.ndarray) -> np.ndarray:
    """Return the derivatives by x and y."""
    x, y = w
    a, b, c = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
    return 2 * np.array([a * (y - 1) + b * (y**2 - 1) + c * (y**3 - 1), a * x + 2 * b * x * y + 3 * c * x * y**2])


SURFACES = {
    "Rosenbrock": Surface(rosenbrock, rosenbrock_gradient, (-0.5, 2.2), (1.0, 1.0), (-2.0, 2.0, -0.8, 2.6), 5e-4),
    "Beale": Surface(beale, beale_gradient, (1.0, 1.5), (3.0, 0.5), (-0.4, 4.2, -1.6, 1.9), 2e-3),
}


def optimizers(surface: Surface) -> dict[str, keras.optimizers.Optimizer]:
    """Return the four optimizers by the names that the legend shows."""
    return {
        f"SGD({surface.sgd_rate:g}, momentum=0.9)": SGD(surface.sgd_rate, momentum=0.9),
        "Adagrad(1.0)": Adagrad(1.0),
        "RMSprop(0.02)": RMSprop(0.02),
        "Adam(0.2)": Adam(0.2),
    }


def path(optimizer: keras.optimizers.Optimizer, surface: Surface) -> np.ndarray:
    """Return the points that the optimizer passes from the start, shape (STEPS + 1, 2)."""
    w = keras.Variable(np.array(surface.start, "float32"))
    points = [np.array(surface.start)]
    for _ in range(STEPS):
        optimizer.apply([ops.convert_to_tensor(surface.gradient(points[-1]).astype("float32"))], [w])
        points.append(ops.convert_to_numpy(w.value).astype("float64"))
    return np.array(points)


def draw(axis: Axes, surface: Surface) -> None:
    """Draw the surface's heights, its start and its minimum."""
    left, right, bottom, top = surface.frame
    grid = np.meshgrid(np.linspace(left, right, 400), np.linspace(bottom, top, 400))
    axis.contourf(*grid, surface.height(np.array(grid)), levels=np.logspace(-3, 4, 22), cmap="Greys", norm="log", extend="both", alpha=0.5)
    axis.plot(*surface.start, "o", color="black", markersize=9, zorder=3)
    axis.annotate("start", surface.start, (8, 6), textcoords="offset points")
    axis.plot(*surface.minimum, "*", color="gold", markeredgecolor="black", markersize=18, zorder=3)
    axis.annotate("minimum", surface.minimum, (10, -16), textcoords="offset points")
    axis.set(xlabel="x", ylabel="y", xlim=(left, right), ylim=(bottom, top))


def main() -> None:
    """Walk, print, draw."""
    figure, axes = plt.subplots(1, len(SURFACES), figsize=(12, 6.2), layout="constrained")
    for axis, (title, surface) in zip(axes, SURFACES.items(), strict=True):
        draw(axis, surface)
        for width, (name, optimizer) in zip((3.6, 2.8, 2.0, 1.4), optimizers(surface).items(), strict=True):
            points = path(optimizer, surface)
            (x, y), distance = points[-1], np.linalg.norm(points[-1] - surface.minimum)
            print(f"{title:10} {name:26} ends at ({x:6.3f}, {y:6.3f}), {distance:.0e} from the minimum")
            (line,) = axis.plot(*points.T, linewidth=width, label=name)
            axis.plot(x, y, "o", color=line.get_color(), markeredgecolor="white", markersize=7, zorder=4)
        axis.set_title(f"{title}, {STEPS} steps")
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110)
    print(PICTURE)


if __name__ == "__main__":
    main()
