"""Fusion on the CPU, compiled by Numba; equal to ``reference``."""
