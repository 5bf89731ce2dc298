"""For the site: pages and files that lie outside `docs/`, and links to them.

README.md is the first page and CHANGELOG.md the last; the results of the benchmarks are a page and files beside it.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changes.md", "benchmarks/results/results.md": "benchmarks/results/results.md"}
LINK = re.compile(r"\]\(([^)#:\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add what lies outside."""
    for outside, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / outside).read_text(encoding="utf-8")))
    for path in sorted(p for p in (ROOT / "benchmarks/results").iterdir() if p.suffix != ".md"):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links of the repository to where their targets lie on the site."""
    source = {after: before for before, after in PAGES.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    here = posixpath.dirname(page.file.src_uri)

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        on_site = PAGES.get(target, target.removeprefix("docs/"))
        return f"]({posixpath.relpath(on_site, here or '.')}{match[2] or ''})"

    return LINK.sub(moved, markdown)
