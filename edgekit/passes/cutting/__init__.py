"""Cutting: the end of a model that no engine loads becomes a postprocess in numpy, with a proof."""
