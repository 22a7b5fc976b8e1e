"""Runs a user's Python script unchanged and writes a trace of every model that it calls."""

__version__ = "0.1.0"
