"""Cordboard, a third-party-control CTI server for Asterisk."""

__version__ = "0.1.0"
