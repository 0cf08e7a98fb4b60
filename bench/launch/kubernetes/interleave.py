"""Several runs in turn on the same nodes: A B B A."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from bench.launch.kubernetes.run import ClusterRun

__all__ = ["interleave"]


def interleave(arms: Sequence[ClusterRun]) -> None:
    """Run all arms on the same nodes, a repeat of each in turn, back and forth: A B B A.

    Node and time of day then disturb all arms alike. The first arm whose nodes are settled,
    by its volume or by its first repeat, settles them for the others. An arm that fails ends
    the others after the step that they are in.
    """
    steps = [arm.steps() for arm in arms]
    try:
        _alternate(arms, steps)
    except KeyboardInterrupt:  # between two steps
        for arm in arms:
            arm.campaign.interrupted = True
    finally:
        for one in steps:
            one.close()


def _alternate(arms: Sequence[ClusterRun], steps: Sequence[Generator[None, None, None]]) -> None:
    order = list(range(len(arms)))
    made = False
    while order:
        for index in list(order):
            nodes = next((arm.nodes for arm in arms if arm.nodes), ())
            arms[index].nodes = arms[index].nodes or nodes
            try:
                next(steps[index])
            except StopIteration:
                order.remove(index)
            campaign = arms[index].campaign
            if campaign.error is not None or campaign.interrupted:
                # The others' repeats stand, but they are fewer than planned: no arm is whole.
                for arm in arms:
                    arm.campaign.interrupted |= campaign.interrupted or arm is not arms[index]
                return
        if made:
            order.reverse()
        made = True  # the first round made the data sets: A B, and then A B B A
