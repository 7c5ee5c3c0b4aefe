"""Privacy: what a round may tell of a single device, how much of it is spent, and sums whose parts nobody sees."""
