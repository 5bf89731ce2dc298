"""What the guides in docs/ show runs as it stands there: the blocks of a page one after the other, and the lines of the command."""

import re
import shlex
from pathlib import Path

import click
import processes
import pytest

from keras_ext_cli.main import cli

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
# By page: how many blocks there are, and a word of what they print.
GUIDES = {
    "drop_in.md": (4, "batch normalizations are ours"),
    "monitor.md": (2, "vanishing gradient"),
    "repair.md": (1, "exchange_activation"),
    "search.md": (2, "Leaderboard"),
    "scaling.md": (1, "Leaderboard"),
    "tables.md": (2, "scikit-learn's"),
    "together.md": (1, "shared"),
    "training.md": (10, "reached after epoch"),
    "tuners.md": (4, "Leaderboard"),
}
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
COMMANDS = [line.strip() for page in PAGES for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("    keras-ext ")]


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def run(page, folder):
    """Run the blocks of a page in one process."""
    # The guide to the monitor is there for its warning.
    strict = [] if page == "monitor.md" else ["-W", "error::UserWarning"]
    done = processes.run(*strict, "-c", "\n".join(blocks(page)), cwd=folder, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_every_page_with_blocks_is_tried():
    # The pages of the failures have a test of their own.
    assert {page.name for page in DOCS.glob("*.md") if blocks(page.name)} == set(GUIDES)


@pytest.mark.parametrize("page", [page for page in GUIDES if page not in ("drop_in.md", "scaling.md")])
def test_the_blocks_of_a_guide_run(page, tmp_path):
    count, word = GUIDES[page]
    assert len(blocks(page)) == count
    assert word in run(page, tmp_path)
    if page == "training.md":
        assert (tmp_path / "rates.png").is_file()


def test_the_guide_to_our_parts_runs_and_prints_its_table_of_first_weights(tmp_path):
    count, word = GUIDES["drop_in.md"]
    assert len(blocks("drop_in.md")) == count
    printed = run("drop_in.md", tmp_path)
    assert word in printed
    text = (DOCS / "drop_in.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"\n((?:    (?:layer  |sequential).*\n)+)", text)
    (printed,) = re.findall(r"^((?:(?:layer  |sequential/).*\n)+)", printed, re.MULTILINE)
    # The last column is random.
    rows = [[line.split()[:-1] for line in table.strip().splitlines()] for table in (shown, printed)]
    assert rows[0] == rows[1]


def test_the_search_on_ray_runs(tmp_path):
    pytest.importorskip("ray")
    assert len(blocks("scaling.md")) == GUIDES["scaling.md"][0]
    assert GUIDES["scaling.md"][1] in run("scaling.md", tmp_path)


def test_there_are_commands():
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("line", sorted(set(COMMANDS)))
def test_a_command_that_is_shown_has_the_options_that_it_is_shown_with(line):
    _, *words = shlex.split(line, comments=True)
    known = {name: option for option in cli.commands[words[0]].params for name in option.opts}
    shown = [i for i, word in enumerate(words) if word.startswith("-")]
    assert [words[i] for i in shown if words[i] not in known] == []
    for i in shown:
        option = known[words[i]]
        if not option.is_flag and not isinstance(option.type, click.Path):
            option.type.convert(words[i + 1], option, None)


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
