"""The notebooks of `examples`, run as a user runs them."""

from pathlib import Path

import nbclient
import nbformat
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
# What the cells must show, by the text that a cell begins with.
EXPECTED = {
    "why_it_does_not_learn": {
        "monitor": "vanishing gradient",
        "diagnose(": "nothing found",
        "curve = ": "RateCurve",
        "epochs, ": "OneCycle",
    },
    "search": {"tuner.search(": "12 of 12 trials done", "results(tuner)": "Leaderboard"},
}


@pytest.mark.parametrize("name", list(EXPECTED))
def test_a_notebook_runs_and_shows_what_its_text_says(name, tmp_path):
    book = nbformat.read(EXAMPLES / f"{name}.ipynb", 4)
    nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    for begin, words in EXPECTED[name].items():
        (cell,) = (cell for cell in cells if cell.source.startswith(begin))
        pages = [output.data["text/html"] for output in cell.outputs if "text/html" in output.get("data", {})]
        assert len(pages) == 1
        assert words in pages[0]
    printed = "".join(output.text for cell in cells for output in cell.outputs if output.get("name") == "stdout")
    if name == "search":
        assert float(printed.rpartition("accuracy ")[2]) > 0.9
        return
    first, last = (line for line in printed.splitlines() if line.startswith("accuracy"))
    assert float(first.split()[1]) < 0.3
    assert float(last.split()[1]) > 0.93
    assert last.endswith("0 findings")
    (warned,) = (output.text for cell in cells for output in cell.outputs if "critical" in output.get("text", ""))
    assert "history = model.fit(" in warned  # the user's own line


def test_the_notebooks_hold_what_they_showed_when_they_were_run():
    for name in EXPECTED:
        book = nbformat.read(EXAMPLES / f"{name}.ipynb", 4)
        assert all(cell.outputs for cell in book.cells if cell.cell_type == "code" and "tuner = watch(" not in cell.source)
