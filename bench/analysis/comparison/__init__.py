"""Two sets of stored runs, cell by cell: effects, intervals, verdicts. Pure but for its input."""
