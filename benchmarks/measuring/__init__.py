"""How a figure is measured: clock and rounds, a compiled step, the machine."""
