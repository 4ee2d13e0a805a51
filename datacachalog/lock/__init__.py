"""`catalog.lock`: its file, what it means to a run, and how two states compare."""
