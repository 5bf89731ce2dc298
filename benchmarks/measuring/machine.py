"""Where and with what the figures were taken: no host name, no path."""

import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path


def header(command: str) -> dict[str, str]:
    """Return the machine, the versions, the date and the `command`; taken before the figures, for the load of the machine."""
    import keras

    import keras_ext
    from benchmarks.measuring import device
    from keras_ext._backend import framework_version

    return {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": cpu_model(),
        "cores": str(os.cpu_count()),
        "memory": memory(),
        "load before": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
        "device": device.name(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": f"keras_ext {keras_ext.__version__}, keras {keras.__version__}, {framework_version()}, numpy {version('numpy')}",
    }


def cpu_model() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def memory() -> str:
    """Return the size of the main memory."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return "unknown"
    return f"{size / 2**30:.0f} GiB"
