"""The parts of a search's page that are about its data: the test by class or by residual, and the baseline."""

from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import Any

from matplotlib.figure import Figure

from keras_ext._html import image
from keras_ext._wording import sentence
from keras_ext.automl.baseline import Baseline
from keras_ext.automl.evaluation import Evaluation
from keras_ext.callbacks.monitor.report.html import table

# A confusion matrix of more classes is too wide to read.
_MOST_CLASSES = 30


def about(summary: dict[str, Any], trained_again: int, ended: datetime) -> dict[str, str]:
    """Return what the page says at its top of how the search was made and what became of its best network."""
    settings, test, metric = summary["settings"], summary["test"], summary["metric"]
    reported = {
        "best model": "none: every trial failed" if summary["best_model"] is None
        else f"trained again on the {trained_again} samples of {'all folds' if settings['folds'] else 'training and validation'}"
        if trained_again
        else "as its trial left it, not trained again" + ", of the folds' networks the one of the best epoch" * bool(settings["folds"]),
        "test": "none" if test is None
        else f"{metric} {test[metric]:.4f} on {test['samples']} samples that no trial saw",
        **({"baseline": summary["verdict"]} if summary["verdict"] else {}),
        **({"data": ". ".join(map(sentence, summary["notes"]))} if summary["notes"] else {}),
        "pruner": settings["pruner"],
        "tuner": f"{settings['tuner']}, seed {settings['seed']}",
        "trials": f"at most {settings['epochs']} epochs each" if settings["tuner"] == "hyperband"
        else f"at most {settings['trials']}, of at most {settings['epochs']} epochs each",
        "put aside": f"{settings['test']:g} of the samples for the test, the others in {settings['folds']} folds for the scores"
        if settings["folds"] else f"{settings['validation']:g} of the samples for the scores, {settings['test']:g} for the test",
        "networks": f"{summary['network']}, all parts" if settings["wide"] else summary["network"],
        "batch sizes": ", ".join(map(str, settings["batch_sizes"])),
        "computed in": settings["mixed_precision"] or "float32",
        "backend": f"keras {summary['keras']} on {summary['backend']}, {summary['device']}",
        "ended": f"{ended:%Y-%m-%d %H:%M}",
    }  # fmt: skip
    return reported


def parts(found: Sequence[Baseline], network: tuple[float, float | None], metric: str, evaluation: Evaluation | None) -> list[str]:
    """Return the page's parts about baseline and test as HTML; `network` has the best network's scores of validation and test."""
    html: list[str] = []
    if found:
        rows = [("best network", *network), *((each.name, each.score, each.test_score) for each in found)]
        cells = [[("words name", name), *(("", "" if v is None else f"{v:.4f}") for v in scores)] for name, *scores in rows]
        html += ["<h2>Beside classical models</h2>", "<p>On the same samples, with scikit-learn's own settings.</p>"]
        html += table(["model", f"{metric}, validation", f"{metric}, test"], cells, {0})
    if evaluation is None:
        return html
    if evaluation.classes is None:
        said = "Residuals of the test against the predictions: a cloud without a shape around 0 is what is wanted"
        return [*html, "<h2>Residuals</h2>", image(residual_picture(evaluation), said)]
    return [*html, "<h2>The test by class</h2>", *_by_class(evaluation)]


def residual_picture(evaluation: Evaluation) -> Figure:
    """Return the residuals, target less prediction, against the predictions."""
    figure = Figure(figsize=(9.0, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0.0, color="#1a6b32", linewidth=1.0)
    axes.scatter(evaluation.predicted, evaluation.y - evaluation.predicted, s=12, color="#1f77b4", alpha=0.6, linewidths=0)
    axes.set_xlabel("prediction")
    axes.set_ylabel("target less prediction")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _by_class(evaluation: Evaluation) -> list[str]:
    classes = evaluation.classes or ()
    rows = [
        [("words name", each.name), ("", f"{each.precision:.3f}"), ("", f"{each.recall:.3f}"), ("", str(each.samples))]
        for each in evaluation.by_class
    ]
    html = table(["class", "precision", "recall", "samples"], rows, {0})
    if len(classes) > _MOST_CLASSES:
        return [*html, f"<p>{len(classes)} classes are too many to show the confusion matrix; results.json has it.</p>"]
    counts = evaluation.confusion
    matrix = [
        [("words name", name), *(("good" if i == j else "critical" if count else "", str(count)) for j, count in enumerate(row))]
        for i, (name, row) in enumerate(zip(classes, counts, strict=True))
    ]
    said = "Confusion matrix: a row for each class, a column for each prediction."
    return [*html, f"<p>{escape(said)}</p>", *table(["class", *classes], matrix, {0})]
