"""Figures of runs and sweeps: matplotlib alone, without its global state."""
