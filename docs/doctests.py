"""For the site: an example that stands in a docstring outside a section of examples is shown as one."""

from typing import Any

import griffe


class FencedDoctests(griffe.Extension):
    """Puts a fence around paragraphs that begin with `>>>`."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of `obj`."""
        if obj.docstring is not None:
            parts = obj.docstring.value.split("\n\n")
            obj.docstring.value = "\n\n".join(f"```pycon\n{part}\n```" if part.startswith(">>> ") else part for part in parts)
