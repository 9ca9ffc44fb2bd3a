"""What the operations share: array interchange, checks and counter-based randomness."""
