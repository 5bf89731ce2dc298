"""Every number in docs/failures comes from the run of its script, and every block in it runs.

What a page says in figures is in docs/failures/figures.json word by word, and the other way round. Exempt are fenced Python (it runs),
indented equations, the sources, and code in the line, whose numbers must stand in the script.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import processes
import pytest

pytestmark = pytest.mark.backend_free

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
FIGURES = json.loads((DOCS / "failures/figures.json").read_text(encoding="utf-8"))
PAGES = sorted(path.stem for path in (DOCS / "failures").glob("*.md") if path.stem != "README")
NUMBER = re.compile(r"(?<![\w.-])-?\d+(?:\.\d+)?(?:e-?\d+)?(?: %)?")


def text_of(page):
    return (DOCS / f"failures/{page}.md").read_text(encoding="utf-8")


def blocks_of(page):
    return re.findall(r"```python\n(.*?)```", text_of(page), re.DOTALL)


def without_blocks(page):
    return re.sub(r"```python\n.*?```", "", text_of(page), flags=re.DOTALL)


def script_of(page):
    return ROOT / f"examples/failures/{page}.py"


def figures_of(page):
    return FIGURES[page]["figures"]


def is_finding(figure):
    return figure.startswith(("warning: ", "critical: "))


def prose(page):
    """Return the page without what is exempt, and without the findings that it quotes."""
    text, foot = without_blocks(page).split("\n## Sources\n")
    assert foot.rstrip().endswith(f"\n*Made by `python examples/failures/{page}.py`: {FIGURES[page]['made']}.*")
    text = "\n".join(line for line in text.splitlines() if not line.startswith(("    ", "> ")))
    return re.sub(r"`[^`]*`|\]\([^)]*\)", " ", text)


def test_there_is_a_page_a_script_and_a_picture_for_each_failure():
    assert len(PAGES) == 12
    assert sorted(FIGURES) == PAGES
    assert sorted(path.stem for path in (ROOT / "examples/failures").glob("*.py") if path.stem != "page") == PAGES
    for page in PAGES:
        assert f"]({page}.md)" in text_of("README")
        picture = DOCS / f"pictures/failures-{page}.png"
        assert f"](../pictures/{picture.name})" in text_of(page)
        assert picture.stat().st_size < 150_000


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_number_that_its_script_did_not_print(page):
    printed = {number for figure in figures_of(page).values() if not is_finding(figure) for number in NUMBER.findall(figure)}
    assert set(NUMBER.findall(prose(page))) == printed


@pytest.mark.parametrize("page", PAGES)
def test_a_page_quotes_what_the_monitor_said_word_by_word(page):
    quoted = [line.removeprefix("> ") for line in text_of(page).splitlines() if line.startswith("> ")]
    assert sorted(quoted) == sorted(figure for figure in figures_of(page).values() if is_finding(figure))


@pytest.mark.parametrize("page", PAGES)
def test_numbers_within_code_in_the_line_stand_in_the_script(page):
    script = script_of(page).read_text(encoding="utf-8")
    codes = re.findall(r"`([^`]+)`", without_blocks(page).split("\n## Sources\n")[0])
    assert [code for code in codes if re.search(r"\d", code) and code not in script] == []


@pytest.mark.parametrize("page", [*PAGES, "README"])
def test_what_a_page_links_to_exists(page):
    for link in re.findall(r"\]\(([^)]+)\)", text_of(page)):
        assert (DOCS / "failures" / link).exists(), link


@pytest.mark.parametrize("page", PAGES)
def test_a_page_s_block_runs(page, tmp_path):
    (block,) = blocks_of(page)
    done = processes.run("-c", block, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_new_run_prints_about_the_same(page, tmp_path):
    """Percentages within 15 points, other numbers within a factor of 2, findings of the same symptom; other machines round otherwise."""
    if keras.backend.backend() != FIGURES[page]["backend"]:
        pytest.skip(f"the figures were made on {FIGURES[page]['backend']}")
    command = [sys.executable, str(script_of(page)), "--docs", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-2000:]
    new = json.loads((tmp_path / "failures/figures.json").read_text(encoding="utf-8"))[page]["figures"]
    assert set(new) == set(figures_of(page))
    assert {name: (new[name], old) for name, old in figures_of(page).items() if not is_near(new[name], old)} == {}


def is_near(new, old):
    if is_finding(old):
        return new.split(" in ")[0] == old.split(" in ")[0]
    if old.endswith(" %"):
        return abs(float(new.removesuffix(" %")) - float(old.removesuffix(" %"))) <= 15
    return float(new) == float(old) or 0.5 * abs(float(old)) <= abs(float(new)) <= 2 * abs(float(old))
