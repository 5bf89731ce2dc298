"""A search as one HTML page."""

import os
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from keras_ext._atomic import write_text
from keras_ext.callbacks.monitor.report.html import document, image, table
from keras_ext.search.picture import hyperparameters, parallel_picture, score_picture, state_of, symptom_picture, time_unit
from keras_ext.search.records import NOTHING_FOUND, Record

if TYPE_CHECKING:
    from keras_ext.search.results import Results


def page(results: "Results", title: str = "Search", about: Mapping[str, str] | None = None, first: Sequence[str] = ()) -> str:
    """Return a page with the best trial, what else is known `about` the search, the pictures, and a table of all trials.

    `first` are parts of HTML that stand before the pictures.
    """
    if not results.records:
        return document(f"{title}: no trials", [f"<h1>{escape(title)}</h1>", "<p>No trial has ended yet.</p>"])
    reported = _verdict(results)
    parts = [f"<h1>{escape(title)}</h1>", f'<p class="verdict">{escape(reported)}</p>', f'<p class="quiet">{escape(_counts(results))}</p>']
    if about:
        parts += table(["what", "how"], ([("words", name), ("words name", text)] for name, text in about.items()), {0, 1})
    parts += first
    scores = score_picture(results.records, results.score_name, results.direction)
    said = f"Each trial's {results.score_name} at the time when it ended, and the best so far"
    parts += ["<h2>Score against time</h2>", image(scores, said)]
    if hyperparameters(results.records):
        lines = parallel_picture(results.records, results.score_name, results.direction)
        parts += ["<h2>Hyperparameters</h2>", image(lines, "A line for each trial through its hyperparameters, coloured by its score")]
    parts += _helped(results)
    shares = symptom_picture(results.records)
    if shares is not None:
        said = "Share of the trials with each hyperparameter value that had each critical symptom"
        parts += [
            "<h2>Which values make unhealthy</h2>",
            f"<p>{said}; how many trials had the value stands in brackets.</p>",
            image(shares, said),
        ]
    parts += ["<h2>Trials</h2>", *_trials(results)]
    return document(f"{title}: {reported}", parts)


def _helped(results: "Results") -> list[str]:
    found = results.importance()
    if not found:
        return []
    rows = [
        [
            ("words", part.name if first else ""),
            ("", f"{part.share:.0%} ({part.low:.0%} to {part.high:.0%})" if first else ""),
            ("words name", value.value),
            ("", f"{value.median:.4g}"),
            ("", f"{value.low:.4g} to {value.high:.4g}"),
            ("", str(value.trials)),
        ]
        for part in found
        for first, value in zip([True] + [False] * len(part.values), part.values, strict=False)
    ]
    told = [part.sentence for part in found if part.is_distinct]
    others = ", ".join(part.name for part in found if not part.is_distinct)
    said = [*told, *([f"not told apart: the values of {others}"] if others else [])]
    headings = ["hyperparameter", "importance", "value", f"median {results.score_name}", "quartiles", "trials"]
    return ["<h2>Which part helped</h2>", *(f"<p>{escape(sentence)}</p>" for sentence in said), *table(headings, rows, {0, 2})]


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
    return f"Best {results.score_name} {best.score:.4g}, of trial {best.number}"


def _counts(results: "Results") -> str:
    states = [state_of(r) for r in results.records]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    seconds = sum(r.seconds for r in results.records)
    unit, length = time_unit(seconds)
    shared = sum(r.program == "shared" for r in results.records)
    programs = f"; {shared} shared compiled steps" if shared else ""
    return f"{len(states)} trials in {seconds / length:.3g} {unit} of training: {counts}{programs}"


def _trials(results: "Results") -> list[str]:
    names = list(dict.fromkeys(name for r in results.records for name in r.hyperparameters))
    headings = ["rank", "trial", results.score_name, "epochs", "seconds", "ended", "diagnosis", *names]
    rows = [_row(rank, record, names) for rank, record in enumerate(results.records, start=1)]
    return table(headings, rows, {5, 6})


def _row(rank: int, record: Record, names: Sequence[str]) -> list[tuple[str, str]]:
    score = ("critical", "none") if record.score is None else ("", f"{record.score:.4g}")
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
