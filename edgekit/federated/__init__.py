"""Federated rounds, the host's side: what devices send is checked, combined, and becomes the next weights."""
