"""Everything that happens by itself; imported once, in ``SpeedyConfig.ready()``."""

from speedy.signals import custom_signals, employee_assignment

__all__ = ["custom_signals", "employee_assignment"]
