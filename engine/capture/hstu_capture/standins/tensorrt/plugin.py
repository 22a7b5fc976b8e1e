"""Plugins need TensorRT itself."""
