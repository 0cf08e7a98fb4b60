"""Loading what is stored of a run, for its page."""

from __future__ import annotations

from bench.analysis.series import RankTables
from bench.results.schema import Run
from bench.results.store import RunKey, Store

__all__ = ["stored_tables"]


def stored_tables(store: Store, key: RunKey, run: Run) -> list[RankTables]:
    """Return the tables of every rank of every repeat; those that were lost are None inside."""
    return [
        RankTables(
            repeat.index,
            rank.rank,
            store.read_steps(key, repeat=repeat.index, rank=rank.rank),
            store.read_pieces(key, repeat=repeat.index, rank=rank.rank),
        )
        for repeat in run.repeats
        for rank in repeat.ranks
    ]
