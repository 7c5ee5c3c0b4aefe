"""Lab: what throw-away devices on this machine are made of. ``edgekit.simulate`` puts them together."""
