"""The tables of `bench.loader.records`, under the name by which accounting knows them."""

from bench.loader.records import PIECE_DTYPE, STEP_DTYPE

__all__ = ["PIECE_DTYPE", "STEP_DTYPE"]
