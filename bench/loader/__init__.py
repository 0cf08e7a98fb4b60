"""The parallel loader: planner, reader processes, pinned ring, and the pipeline that joins them.

Its modules are used by the agent; `reader` and `wire` are also imported by reader processes
and therefore import the standard library only.
"""
