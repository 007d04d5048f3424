"""Sweeps on Ray Tune: spaces, trials that are trainings, and their record."""
