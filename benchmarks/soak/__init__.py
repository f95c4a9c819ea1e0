"""Runs of minutes, not for CI."""
