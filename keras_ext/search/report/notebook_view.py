"""The picture of a running search in a notebook's cell, which changes in place."""

import time
from collections.abc import Callable
from typing import Any

# Seconds between two pictures: each is sent to the browser.
_PAUSE = 0.5


class NotebookPicture:
    """Shows HTML in the running cell, and replaces it.

    Args:
        html: returns the picture of now.
        clock: seconds.
    """

    def __init__(self, html: Callable[[], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._html, self._clock = html, clock
        self._handle: Any = None
        self._drawn = 0.0

    def start(self) -> None:
        """Show the first picture."""
        from IPython.display import HTML, display  # pyright: ignore[reportMissingModuleSource, reportMissingImports]

        self._handle, self._drawn = display(HTML(self._html()), display_id=True), self._clock()

    def refresh(self, at_once: bool = False) -> None:
        """Replace the picture, unless the last one is new."""
        from IPython.display import HTML  # pyright: ignore[reportMissingModuleSource, reportMissingImports]

        if self._handle is not None and (at_once or self._clock() - self._drawn >= _PAUSE):
            self._drawn = self._clock()
            self._handle.update(HTML(self._html()))

    def stop(self) -> None:
        """Show the last picture, which stays."""
        self.refresh(at_once=True)
        self._handle = None
