"""The process of trials that a search on this machine keeps apart: `python -m keras_ext.parallel.child`.

It reads what it is to do from its standard input, pickled, and writes what happens to its standard output; what the trials print goes where
errors go. When the input ends, the search's process is gone, and so is this one.
"""

import os
import pickle
import queue
import sys
import threading
from typing import Any


def main() -> None:
    """Run trials until the input ends."""
    reported = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    jobs: queue.Queue[Any] = queue.Queue()
    answers: queue.Queue[tuple[str | None]] = queue.Queue()
    source = sys.stdin.buffer

    def read() -> None:
        try:
            while True:
                found = pickle.load(source)
                (answers if isinstance(found, tuple) else jobs).put(found)
        except (EOFError, pickle.UnpicklingError):
            os._exit(0)
        except Exception as error:  # such as a module that is not found
            jobs.put(error)

    threading.Thread(target=read, daemon=True).start()
    lock = threading.Lock()

    def report(name: str, what: str, values: tuple[Any, ...]) -> str | None:
        with lock:
            pickle.dump((name, what, values), reported)
            reported.flush()
        return answers.get()[0] if shared.answers(what) else None

    shared = jobs.get()
    while True:
        group = jobs.get()
        broken = next((each for each in (shared, group) if isinstance(each, Exception)), None)
        if broken is not None:
            raise broken
        from keras_ext.parallel.session import session_of

        session_of(shared).work(group, report)


if __name__ == "__main__":
    main()
