"""Where bytes come from: files and simulated storage, read straight into slots of the ring.

Modules that run inside reader processes (`base`, `posix`, `simulated`) import the standard
library only: a reader's memory and start-up time are part of what the harness costs.
"""
