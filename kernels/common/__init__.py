"""Code shared by the operations: array interchange, checks, counter-based randomness."""
