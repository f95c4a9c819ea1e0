"""Federated 3D segmentation across hospitals, and how well AI-assisted labels train it."""

__version__ = "0.1.0"
