"""Benches of the GPU backends: ``python -m bench.gpu`` from the repository's root.

Each case asserts its answer, times ours and its peers with device events, and sets them against the
bytes and operations the case cannot do without. Without a GPU the same code runs at tiny sizes
(``--tiny``) on the interpreted and emulated backends under a wall clock, which is for tests alone:
none of its figures is a measurement.
"""
