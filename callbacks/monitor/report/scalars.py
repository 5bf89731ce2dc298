"""The numbers of each snapshot as TensorBoard scalars, without TensorFlow."""

import itertools
import math
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_ext.callbacks.monitor.snapshot import Snapshot, layer_states

_counter = itertools.count()


class Scalars:
    """Write the numbers of each snapshot into a TensorBoard event file.

    Tags of the run: `loss`, `spread`, `saturation`, `dead` (each the worst hidden layer's), `gradient_ratio`, and `clipped` and `skipped`
    where a `GradientClipping` reports them. Tags of a layer: `saturation/<layer>`, `dead/<layer>`, `gradient_norm/<layer>`,
    `gradient_over_weight/<layer>` and `update_over_weight/<layer>`. What was not measured is left out; what is not finite is NaN.

    Each object writes a file of its own into the local folder `log_dir`, which is made if it is missing.

    Raises:
        ImportError: the package tensorboard is missing.
        OSError: the folder cannot be written.
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        try:
            # Its `EventFileWriter` imports TensorFlow where it is installed, which costs seconds on the other backends.
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ImportError as error:
            needed = "SaturationMonitor(log_dir=...) needs the package tensorboard. Install it: pip install tensorboard."
            raise ImportError(needed) from error
        self._event: Any = Event
        self._summary: Any = Summary
        folder = Path(log_dir)
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a folder in the order of their names.
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}.{next(_counter)}"
        self._records: Any = RecordWriter((folder / name).open("xb"))
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def write(self, snapshot: Snapshot) -> None:
        """Write the numbers of `snapshot` at its step; TensorBoard shows them at once."""
        values = [self._summary.Value(tag=tag, simple_value=value) for tag, value in scalars_of(snapshot)]
        self._write(self._event(wall_time=time.time(), step=snapshot.step, summary=self._summary(value=values)))

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        if not self._records.closed:
            self._records.close()

    def _write(self, event: Any) -> None:
        self._records.write(event.SerializeToString())
        self._records.flush()


def scalars_of(snapshot: Snapshot) -> Iterator[tuple[str, float]]:
    """Yield the tags and values of one snapshot."""
    yield "loss", snapshot.loss
    yield "spread", snapshot.spread
    states = layer_states(snapshot)
    for tag, field in (("saturation", "saturated"), ("dead", "dead")):
        measured = [getattr(s, field) for s in states if s.counts and not math.isnan(getattr(s, field))]
        if measured:
            yield tag, max(measured) if snapshot.finite else math.nan
    if snapshot.kernels:
        yield "gradient_ratio", snapshot.gradient_ratio if snapshot.finite else math.nan
    for tag, value in (("clipped", snapshot.clipped), ("skipped", snapshot.skipped)):
        if not math.isnan(value):
            yield tag, value
    for s in states:
        for tag, value in (("saturation", s.saturated), ("dead", s.dead)):
            if not math.isnan(value):
                yield f"{tag}/{s.layer}", value if s.values_finite else math.nan
        if s.has_kernel:
            yield f"gradient_norm/{s.layer}", s.gradient_norm
            yield f"gradient_over_weight/{s.layer}", s.gradient_ratio
        if not math.isnan(s.update_ratio):
            yield f"update_over_weight/{s.layer}", s.update_ratio
