"""Target profiles, one TOML a device; read by ``edgekit.target``."""
