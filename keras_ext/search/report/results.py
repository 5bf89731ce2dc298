"""The results of a search: every trial with its score and why it ended, as a table, records, CSV and a page."""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from keras_ext._atomic import write_text
from keras_ext._checks import bad_argument
from keras_ext._html import shown
from keras_ext.search.folds import Folds
from keras_ext.search.records import NOTHING_FOUND, Record, collect, in_words
from keras_ext.search.report.importance import Importance, importances

# Above this probability a difference may be chance.
_TIED = 0.05


@dataclass(frozen=True)
class Results(Sequence[Record]):
    """The trials of a search that have ended, the best first and those without a score last.

    Args:
        records: the trials.
        score_name: what the score is called.
        direction: `"min"` or `"max"`: which score is better.
        space: KerasTuner's hyperparameters of the search.
        structure: names of the hyperparameters that change the structure, of a tuner that knows them, once it has begun.
        folds: number of the folds that a trial's trainings are validated on in turn; 0: all have the same validation.
    """

    records: tuple[Record, ...]
    score_name: str
    direction: str = "min"
    space: tuple[Any, ...] = ()
    structure: tuple[str, ...] | None = None
    folds: int = 0

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...

    def __getitem__(self, index: int | slice) -> Any:
        return self.records[index]

    def table(self, most: int = 10) -> Table:
        """Return the best `most` trials as a table, for `rich.print`."""
        table = Table(title="Leaderboard", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
        for heading in ("#", "trial", self.score_name, "time", "epochs"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("diagnosis and hyperparameters", ratio=1)
        tied = self.tied
        for rank, r in enumerate(self.records[:most], start=1):
            score = "failed" if r.score is None else f"{r.score:.4f}" + (f" ± {r.spread:.4f}" if r.spread is not None else "")
            colour = "red" if r.diagnosis.startswith(("critical", "failed")) else "yellow" if r.diagnosis != NOTHING_FOUND else "green"
            epochs = f"{r.epochs} of {r.planned_epochs}" if r.epochs < r.planned_epochs else str(r.epochs)
            reported = Text.assemble((r.diagnosis, colour), "\n", (in_words(r.hyperparameters), "dim"))
            table.add_row(str(rank), str(r.number), score, f"{r.seconds:.1f} s", epochs, reported, end_section=rank == tied)
        captions = [f"and {len(self.records) - most} more"] if len(self.records) > most else []
        if tied > 1:
            by = "folds do not tell the first {} apart (Wilcoxon" if self.folds else "executions do not tell the first {} apart (Welch"
            captions.append(f"the {by.format(tied)}'s test, 5 %)")
        if self.folds:
            captions.insert(0, f"each score is the mean of {self.folds} folds")
        table.caption = "; ".join(captions) or None
        return table

    @property
    def tied(self) -> int:
        """The number of first trials whose executions do not differ from those of the best, by Welch's test (1947) at 5 %.

        Folds are compared in pairs, by Wilcoxon's signed-rank test (1945) of whether the best trial is better, which needs at least five.
        A trial that lacks folds is compared by Welch's test.

        0 where the trials have one execution each.
        """
        scores = [[score for score in record.executions if score is not None] for record in self.records]
        if not scores or len(scores[0]) < 2:
            return 0
        return next((rank for rank, others in enumerate(scores[1:], start=1) if self._differ(scores[0], others)), len(scores))

    def _differ(self, best: Sequence[float], others: Sequence[float]) -> bool:
        """Return whether two samples differ by more than chance; one of less than two numbers counts as another."""
        from scipy import stats

        if len(others) < 2:
            return True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of samples of one value, or of few
            if self.folds and len(best) == len(others):
                better = "greater" if self.direction == "max" else "less"
                differences = [a - b for a, b in zip(best, others, strict=True)]
                chance = stats.wilcoxon(differences, alternative=better, zero_method="zsplit").pvalue if any(differences) else 1.0
            else:
                chance = stats.ttest_ind(best, others, equal_var=False).pvalue
        return set(best) != set(others) and not chance > _TIED

    def to_csv(self, path: str | Path) -> None:
        """Write all trials as a CSV file, which is there whole or not at all; missing folders are made.

        Raises:
            OSError: the path cannot be written.
        """
        names = sorted({name for r in self.records for name in r.hyperparameters})
        fields = ("number", "trial", "status", "score", "spread", "seconds", "epochs", "planned_epochs", "ended", "diagnosis", "program")
        rows = [[i, *(getattr(r, f) for f in fields), *map(r.hyperparameters.get, names)] for i, r in enumerate(self.records, start=1)]
        rows = [[_shortest(value) if isinstance(value, float) else value for value in row] for row in rows]
        frame = pd.DataFrame(rows, columns=["rank", *fields, *names], dtype=object)  # whole numbers beside gaps stay whole
        write_text(path, frame.to_csv(index=False, lineterminator="\n"))

    def by_structure(self, names: Sequence[str] | None = None) -> "Results":
        """Return the best trial of each structure.

        Args:
            names: of the hyperparameters that change the structure; of a `NuisanceSearch` or `OptunaTuner`, its own.

        Raises:
            ValueError: there are no names, and the search has none.
        """
        names = self.structure if names is None else tuple(names)
        if names is None:
            fix = "A NuisanceSearch has its own once it has begun, and so has an OptunaTuner with `trials_per_structure`."
            raise bad_argument("names", "a list of hyperparameters", names, fix)
        best: dict[Any, Record] = {}
        for record in self.records:
            best.setdefault(tuple(map(record.hyperparameters.get, names)), record)
        return replace(self, records=tuple(best.values()))

    def importance(self, bootstraps: int = 50, seed: int = 0) -> tuple[Importance, ...]:
        """Return how much each hyperparameter mattered, the most important first, with the scores by its values.

        The importance is that of PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255): how far the values of the better half of the
        trials are from those of all. Trials without a score do not count. Fewer than four give nothing.

        Args:
            bootstraps: number of samples of the trials that the interval of the importance comes from.
            seed: of these samples.

        Raises:
            ValueError: `bootstraps` is no whole number of at least 1.
        """
        known = vars(self).setdefault("_importance", {})  # the files of a search need it three times
        if (bootstraps, seed) not in known:
            known[bootstraps, seed] = importances(self.records, self.space, self.score_name, self.direction, bootstraps, seed)
        return known[bootstraps, seed]

    def to_optuna(self) -> Any:
        """Return an Optuna study of these trials, in memory: for Optuna's pictures and importances, or to copy into a storage.

        A trial without a score is a failed one. Optuna's steps are the epochs, counted from 1.
        """
        from keras_ext.search.tuners.study import study_of

        return study_of(self.records, self.space, self.direction)

    def _repr_html_(self) -> str:
        from keras_ext.search.report.picture import score_picture

        scored = any(record.score is not None for record in self.records)
        picture = score_picture(self.records, self.score_name, self.direction) if scored else None
        return shown(self.table(), picture, "Score of each trial against time")

    def report(self, path: str | Path) -> None:
        """Write a page with the trials, their scores against time and hyperparameters, and which values make unhealthy: HTML on its own.

        Raises:
            OSError: the path cannot be written.
        """
        from keras_ext.search.report.page import write_page

        write_page(path, self)


def results(tuner: Any, log_dir: str | Path | None = None) -> Results:
    """Return what a KerasTuner `tuner` has tried so far; of trials that `watch` saw, with why they ended.

    Of a search that was not watched, but had a `SaturationMonitor(..., log_dir=...)` among its callbacks, `log_dir` has the findings.

    A search of another process, or of yesterday, is read by making its tuner again with the same `directory` and `project_name`, and
    `overwrite=False`.

    Raises:
        TypeError: `tuner` is none.

    Examples:
        >>> import keras, keras_tuner, tempfile
        >>> build = lambda hp: keras.Sequential([keras.layers.Dense(hp.Int("units", 1, 4))])
        >>> tuner = keras_tuner.RandomSearch(build, objective="val_loss", max_trials=1, directory=tempfile.mkdtemp())
        >>> len(results(tuner))
        0
    """
    if not hasattr(tuner, "oracle"):
        raise bad_argument("tuner", "a KerasTuner tuner", tuner, error=TypeError)
    objective = tuner.oracle.objective
    records = tuple(collect(tuner, None if log_dir is None else Path(log_dir)))
    structure = getattr(tuner.oracle, "structure_hyperparameters", None)
    folds = getattr(getattr(tuner, "hypermodel", None), "folds", None)
    count = folds.count if isinstance(folds, Folds) else 0
    return Results(records, objective.name, objective.direction, tuple(tuner.oracle.get_space().space), structure, count)


def _shortest(value: float) -> float:
    """Return the short number that a sum of steps is but for rounding: .3 for .1 + .2; any other as it is."""
    short = float(f"{value:.12g}")
    return short if abs(short - value) <= 4 * math.ulp(value) else value
