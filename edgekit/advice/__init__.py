"""Advice: what times that devices measured say about the next build."""
