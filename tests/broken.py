"""A module that cannot be imported, though it is there."""

raise RuntimeError("not today")
