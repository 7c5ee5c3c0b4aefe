"""Page: what is shown of what devices reported, as values; and one HTML page of them that needs nothing else."""
