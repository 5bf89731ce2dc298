"""A search as one HTML page, which needs no network: the answer first, then what helped, how the trials went, and all of them."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from keras_ext._atomic import write_text
from keras_ext.callbacks.monitor.report.html import document, table
from keras_ext.search.records import NOTHING_FOUND, Record
from keras_ext.search.report.state import state_of, time_unit
from keras_ext.search.report.values import by_value, hyperparameters

if TYPE_CHECKING:
    from keras_ext.search.report.results import Results

# What a reader wants to know at once.
_ANSWER = ("test", "baseline")
# A value is named with a symptom if at least so many trials had both, and so much more of its trials than of all.
_FEWEST, _OFTENER = 2, 1.5


def page(results: "Results", title: str = "Search", about: Mapping[str, str] | None = None, first: Sequence[str] = ()) -> str:
    """Return a page with the best trial, which part helped, the course of the trials, their findings, and a table of all.

    `about` is what else is known of the search, `first` are parts of HTML that stand behind the answer.
    """
    if not results.records:
        return document(f"{title}: no trials", [f"<h1>{escape(title)}</h1>", "<p>No trial has ended yet.</p>"])
    # Plotly is slow to import, and a search without a page does without.
    from keras_ext.search.report import interactive

    reported = _verdict(results)
    parts = [f"<h1>{escape(title)}</h1>", f'<p class="verdict">{escape(reported)}</p>', f'<p class="quiet">{escape(_counts(results))}</p>']
    parts += [f"<p>{escape(name)}: {escape(about[name])}</p>" for name in _ANSWER if about and name in about]
    parts += [*first, *_helped(results), *_course(results), *_findings(results), "<h2>Trials</h2>", *_trials(results)]
    if about:
        parts.append("<h2>About the search</h2>")
        parts += table(["what", "how"], ([("words", name), ("words name", text)] for name, text in about.items()), {0, 1})
    return document(f"{title}: {reported}", [*parts, *interactive.scripts()], interactive.STYLE)


def write_page(
    path: str | os.PathLike[str],
    results: "Results",
    title: str = "Search",
    about: Mapping[str, str] | None = None,
    first: Sequence[str] = (),
) -> None:
    """Write `page` to a file that is there whole or not at all; missing folders are made.

    Raises:
        OSError: the path cannot be written.
    """
    write_text(path, page(results, title, about, first))


def _verdict(results: "Results") -> str:
    best = results.records[0]
    if best.score is None:
        return "No trial has a score"
    spread = "" if best.spread is None else f" ± {best.spread:.2g}"
    folds = f", the mean of {results.folds} folds" if results.folds else ""
    return f"Best {results.score_name} {best.score:.4g}{spread}, of trial {best.number}{folds}"


def _counts(results: "Results") -> str:
    states = [state_of(r) for r in results.records]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    seconds = sum(r.seconds for r in results.records)
    unit, length = time_unit(seconds)
    shared = sum(r.program.startswith("shared") for r in results.records)
    programs = f"; {shared} shared compiled steps" if shared else ""
    return f"{len(states)} trials in {seconds / length:.3g} {unit} of training: {counts}{programs}"


def _helped(results: "Results") -> list[str]:
    from keras_ext.search.report import figures
    from keras_ext.search.report.interactive import figure

    found = results.importance()
    if not found:
        return []
    told = [part.sentence for part in found if part.is_distinct]
    others = ", ".join(part.name for part in found if not part.is_distinct)
    said = [*told, *([f"not told apart: the values of {others}"] if others else [])]
    html = ["<h2>Which part helped</h2>", *(f"<p>{escape(sentence)}</p>" for sentence in said)]
    html.append(figure(figures.importance(found), "Importance of each hyperparameter"))
    html += ["<h3>Score by value</h3>", "<p>Median and quartiles; how many trials had the value stands in brackets.</p>"]
    html.append(figure(figures.by_value(found, results.score_name), "Score by value of the most important hyperparameters"))
    return [*html, *_scores(results)]


def _scores(results: "Results") -> list[str]:
    rows = [
        [
            ("words", part.name if first else ""),
            ("", f"{part.share:.0%} ({part.low:.0%} to {part.high:.0%})" if first else ""),
            ("words name", value.value),
            ("", f"{value.median:.4g}"),
            ("", f"{value.low:.4g} to {value.high:.4g}"),
            ("", str(value.trials)),
        ]
        for part in results.importance()
        for first, value in zip([True] + [False] * len(part.values), part.values, strict=False)
    ]
    headings = ["hyperparameter", "importance", "value", f"median {results.score_name}", "quartiles", "trials"]
    return ["<details>", "<summary>The same as a table</summary>", *table(headings, rows, {0, 2}), "</details>"]


def _course(results: "Results") -> Iterator[str]:
    from keras_ext.search.report import figures
    from keras_ext.search.report.interactive import figure

    records, name, direction = results.records, results.score_name, results.direction
    yield "<h2>How the trials went</h2>"
    curves = figures.curves(records, name, direction)
    if curves is not None:
        yield "<p>A line for each trial, the best dark, with a mark where one ended early.</p>"
        yield figure(curves, f"{name} of each trial by epoch")
    yield figure(figures.scores(records, name, direction), f"{name} of each trial at the time when it ended, and the best so far")
    scored = [r for r in records if r.score is not None]
    names = hyperparameters(scored)
    always = [n for n in names if all(n in r.hyperparameters for r in scored)]
    if always:
        yield "<h2>Hyperparameters</h2>"
        yield "<p>A line for each trial, the best light. Drag along an axis to select lines.</p>"
        yield figure(figures.parallel(records, always, name, direction), "A line for each trial through its hyperparameters")
    at_times = [n for n in names if n not in always]
    if at_times:
        yield "<h3>Hyperparameters that only some trials have</h3>"
        yield figure(figures.conditional(records, at_times, name), "Score by the value of each hyperparameter that only some trials have")


def _findings(results: "Results") -> list[str]:
    records = results.records
    counts = Counter(symptom for r in records for symptom in r.symptoms)
    if not counts:
        return []
    rows = [
        [
            ("words", symptom.replace("_", " ")),
            ("", f"{count} of {len(records)}"),
            ("words name", "; ".join(_values_with(records, symptom))),
        ]
        for symptom, count in counts.most_common()
    ]
    return ["<h2>What the monitor found</h2>", *table(["critical symptom", "trials", "mostly with"], rows, {0, 2})]


def _values_with(records: Sequence[Record], symptom: str) -> Iterator[str]:
    """Yield the values with which the symptom is far more frequent than in all trials."""
    of_all = sum(symptom in r.symptoms for r in records) / len(records)
    for name in hyperparameters(records):
        for text, mine in by_value(records, name):
            count = sum(symptom in r.symptoms for r in mine)
            if count >= _FEWEST and count / len(mine) >= _OFTENER * of_all:
                yield f"{name} {text}: {count} of {len(mine)}"


def _trials(results: "Results") -> list[str]:
    from keras_ext.search.report.interactive import sortable

    names = list(dict.fromkeys(name for r in results.records for name in r.hyperparameters))
    headings = ["rank", "trial", results.score_name, "epochs", "seconds", "ended", "diagnosis", *names]
    rows = [_row(rank, record, names) for rank, record in enumerate(results.records, start=1)]
    return sortable(headings, rows, {5, 6})


def _row(rank: int, record: Record, names: Sequence[str]) -> list[tuple[str, str]]:
    spread = "" if record.spread is None else f" ± {record.spread:.2g}"
    score = ("critical", "none") if record.score is None else ("", f"{record.score:.4g}{spread}")
    diagnosis = record.diagnosis if record.diagnosis not in (record.ended, NOTHING_FOUND) else ""
    values = [record.hyperparameters.get(name, "") for name in names]
    return [
        ("", str(rank)),
        ("", str(record.number)),
        score,
        ("", f"{record.epochs} of {record.planned_epochs}" if record.planned_epochs else str(record.epochs)),
        ("", f"{record.seconds:.1f}"),
        ("words name critical" if record.symptoms or record.score is None else "words name", record.ended),
        ("words name", diagnosis),
        *(("", f"{v:.4g}" if isinstance(v, float) else str(v)) for v in values),
    ]
