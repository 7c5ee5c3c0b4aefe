"""Pushes by edgekit beside other ways to bring a file to a machine over SSH."""
