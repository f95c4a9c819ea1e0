"""Flower app: a relay at each site, a checking server, and their simulation on one machine."""
