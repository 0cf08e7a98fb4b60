"""Write golden/ruptures.json: what ruptures finds in fixed series. Run by hand, seldom.

    python -m venv DIR && DIR/bin/pip install ruptures==1.1.10
    DIR/bin/python tests/comparison/ruptures_golden.py

ruptures is no dependency of ours: it is the second opinion on change points.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import ruptures

CASES = {
    "a step down of 10 %": ([30, 20], [0.0, -0.105], 0.02),
    "a step up of 8 %": ([25, 25], [0.0, 0.077], 0.015),
    "a late step": ([40, 6], [0.0, -0.15], 0.02),
    "two steps down": ([20, 20, 20], [0.0, -0.1, -0.2], 0.02),
    "down and back": ([20, 12, 20], [0.0, -0.12, 0.0], 0.015),
    "a staircase": ([15, 15, 15, 15], [0.0, -0.08, -0.02, -0.14], 0.01),
    "steady": ([50], [0.0], 0.02),
    "steady and noisy": ([60], [0.0], 0.08),
}


def case(name: str, seed: int) -> dict:
    lengths, levels, noise = CASES[name]
    rng = np.random.default_rng(seed)
    values = np.repeat(levels, lengths) + rng.normal(0, noise, sum(lengths))
    values = np.round(values, 6)
    count = len(levels) - 1
    found = []
    if count:  # exact dynamic programming for the mean of each level
        found = ruptures.Dynp(model="l2", min_size=2, jump=1).fit(values).predict(n_bkps=count)[:-1]
    return {"name": name, "values": values.tolist(), "ruptures": [int(i) for i in found]}


def main() -> None:
    content = {
        "tool": f"ruptures {version('ruptures')}, Dynp, model l2",
        "cases": [case(name, seed) for seed, name in enumerate(CASES, 1)],
    }
    target = Path(__file__).parent / "golden" / "ruptures.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
