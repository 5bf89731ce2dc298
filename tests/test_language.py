"""The README and the pages use the field's words, in sentences that a reader takes in at once."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.backend_free

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MOST_WORDS = 25
# The word, and what the field says.
BANNED = {
    r"mend(s|ed|ing)?": "fix, remedy",
    r"hopeless": "unpromising, cannot learn",
    r"(sick|ill|illness|illnesses)": "unhealthy, symptom",
    r"(a|the|each|last|first|no|every|one) looks?": "snapshot",
    r"anew": "again, re-",
    r"(told|tells)": "reported, reports, warns",
    r"a word": "a warning",
    r"hangs? on": "depends on",
    r"(stands?|stood) in( for)?": "placeholder, replaces",
    r"processor's time": "CPU time",
    r"deaf": "without diagnosis",
    r"as is meant": "this is expected",
    r"that which": "the noun itself",
    r"(what|who) (is|are|was|were) .* (is|are|does|do|has|have)": "the noun itself",
}


def prose(page):
    """Return the text of a page without code, formulas, headings, targets of links and quoted findings.

    Cells and list items end sentences.
    """
    text = re.sub(r"```.*?```", "\n\n", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    lines = []
    for line in text.splitlines():
        if re.match(r"(    |\t|> |#|\||:::|!\[)", line) and not re.match(r"\s+(-|\d+\.) ", line):
            cells = line.strip("|").split("|") if line.startswith("|") else []
            lines += ["", *(f"{cell}\n" for cell in cells), ""]
        elif re.match(r"\s*(-|\d+\.) ", line):
            lines += ["", re.sub(r"^\s*(-|\d+\.) ", "", line)]
        else:
            lines.append(line)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", "\n".join(lines))
    return re.sub(r"`[^`]*`", "X", text)


def sentences(page):
    for paragraph in re.split(r"\n\s*\n", prose(page)):
        joined = " ".join(paragraph.split())
        yield from (s for s in re.split(r"(?<=[.!?:])\s+(?=[\"'(A-Z*])", joined) if s)


def name_of(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_sentence_has_more_than_25_words(page):
    long = [s for s in sentences(page) if len(re.findall(r"[^\s]*\w[^\s]*", s)) > MOST_WORDS]
    assert long == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_uses_a_word_that_the_field_does_not(page):
    found = {word: instead for word, instead in BANNED.items() for s in sentences(page) if re.search(rf"\b{word}\b", s, re.IGNORECASE)}
    assert found == {}


def test_the_rules_find_what_they_are_for(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Told\n\nIt is told what mends it.\n\n    mend\n\n| a look | b |\n\n" + "word " * 26 + "end.\n`mend` x.\n")
    found = list(sentences(page))
    assert found[0] == "It is told what mends it."
    assert "a look" in found
    assert "mend" not in " ".join(found[1:])
    assert max(len(s.split()) for s in found) == 27
