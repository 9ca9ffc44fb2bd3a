"""Launches of every Triton kernel, one module for each operation."""
