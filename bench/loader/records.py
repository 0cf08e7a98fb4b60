"""The two tables that a rank records while it measures: pieces and steps.

All instants are nanoseconds of CLOCK_MONOTONIC on the rank's node (`time.perf_counter_ns`,
one clock for every process of a node); 0 means "never happened". `*_ns` columns that are
amounts and not instants say so. Rows are written once and never changed afterwards;
everything else in a run document is computed from them.
"""

from __future__ import annotations

import numpy as np

__all__ = ["PIECE_DTYPE", "STEP_DTYPE"]

PIECE_DTYPE = np.dtype(
    [
        ("piece", "<i8"),  # 0.. in plan order; row index of the table
        ("step", "<i8"),  # the batch that it belongs to
        ("reader", "<i4"),  # reader process
        ("thread", "<i4"),  # thread within that process
        ("slot", "<i4"),  # slot of the ring
        ("previous", "<i8"),  # piece that held this slot before, -1 for none
        ("num_extents", "<i4"),  # files or ranges packed into the piece
        ("payload_bytes", "<i8"),  # bytes of samples
        ("transferred_bytes", "<i8"),  # bytes that the storage moved (O_DIRECT rounds up)
        ("grant", "<i8"),  # slot granted, request handed to the readers
        ("start", "<i8"),  # a reader thread took it
        ("read_end", "<i8"),  # last byte in the slot
        ("ready", "<i8"),  # decoded; the reader says so
        ("taken", "<i8"),  # the rank noticed
        ("copy_queued", "<i8"),  # copy enqueued on the copy stream
        ("h2d_start", "<i8"),
        ("h2d_end", "<i8"),
        ("freed", "<i8"),  # the rank put the slot back
        ("open_ns", "<i8"),  # amount: inside open/stat/HEAD between start and read_end
        ("first_byte_ns", "<i8"),  # amount: from request to first byte (objects only)
        ("cpu_ns", "<i8"),  # amount: thread CPU time between start and read_end
        ("decode_cpu_ns", "<i8"),  # amount: thread CPU time between read_end and ready
        ("run_delay_ns", "<i8"),  # amount: runnable but not running, between start and read_end
        ("wake_delay_ns", "<i8"),  # amount: the same, between the thread's last piece and start
        ("retries", "<i4"),
        ("short_reads", "<i4"),
        ("held_ns", "<i8"),  # amount: held back by our own rate limit, up to the grant
    ]
)
"""One row a piece: what one reader thread reads into one slot."""

STEP_DTYPE = np.dtype(
    [
        ("step", "<i8"),  # 0.. row index of the table
        ("epoch", "<i4"),
        ("num_samples", "<i4"),  # 0: an empty step that this rank joins in lock-step
        ("payload_bytes", "<i8"),
        ("first_piece", "<i8"),  # pieces [first_piece, first_piece + num_pieces)
        ("num_pieces", "<i8"),
        ("enqueued", "<i8"),  # the host enqueued the step
        ("own_ready", "<i8"),  # max(last h2d_end, enqueued, previous compute_end)
        ("released", "<i8"),  # lock-step: the last rank arrived; else equal to own_ready
        ("root_rank", "<i4"),  # lock-step: the last rank to arrive; else this rank
        ("compute_start", "<i8"),
        ("compute_end", "<i8"),
        ("late_ns", "<i8"),  # amount: emulation's wake-up lateness that delayed this batch
    ]
)
"""One row a step of one rank."""
