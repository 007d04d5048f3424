"""Kills at random moments of short runs; each run has to end as one that was left in peace."""

import os
import time
from collections import Counter

import pytest
from machine import machine_name
from random_kills import run_through_kills
from test_faults import output  # noqa: F401  # the fixture of an undisturbed run

NUM_KILLS = int(os.environ.get("SOAK_KILLS", "50"))
KILLS_A_RUN = 5


@pytest.mark.timeout(4 * 3600)
def test_soak(output, capsys) -> None:  # noqa: F811
    """SOAK_KILLS kills in all."""
    started, killed, run = time.monotonic(), Counter(), 0
    while killed.total() < NUM_KILLS:
        left = NUM_KILLS - killed.total()
        told = run_through_kills(output, f"soak-{run}", min(left, KILLS_A_RUN), seed=run)
        killed.update(one.split(" after ")[0] for one in told)
        run += 1
        with capsys.disabled():
            print(f"\nrun {run}: {'; '.join(told) or 'left in peace'}", end="", flush=True)
    minutes = (time.monotonic() - started) / 60
    with capsys.disabled():
        print(
            f"\n{machine_name()}; {run} runs through {killed.total()} kills in {minutes:.0f} min:"
        )
        print(f"{dict(killed)}; no run lost, no checkpoint damaged, losses and metrics equal")
