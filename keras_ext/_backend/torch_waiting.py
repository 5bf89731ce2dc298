"""Where PyTorch would wait for its device."""

from typing import Any


def is_at_hand(tensor: Any) -> bool:
    """Return whether Python can read a number of `tensor` without waiting for a device."""
    return tensor.device.type == "cpu"
