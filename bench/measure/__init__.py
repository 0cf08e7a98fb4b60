"""What was measured: records, stall, its causes, cache evidence, host facts, guards.

Pure functions over the tables of `bench.measure.records`, and small readers of /proc and
/sys. Nothing here knows how a loader or a device runs, decides what is good enough, or
prints. Used by the agent; may import from loader, device, dataset, storage, results, spec.
Import the modules by name: this package imports nothing, so that reader processes stay small.
"""
