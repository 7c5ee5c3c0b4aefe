"""Formats: reading model files, as data, far enough to know what they take and give and to refuse what is unsafe."""
