"""Benchmarks of the GPU backends: run ``python -m bench.gpu`` from the repository's root.

Each case checks its result, times our backends and their peers with device events, and compares the
times with the bytes and operations that the case requires. Without a GPU, the same code runs at
tiny sizes (``--tiny``) on the interpreted and emulated backends with a wall clock. This is for
tests only; its times are not measurements.
"""
