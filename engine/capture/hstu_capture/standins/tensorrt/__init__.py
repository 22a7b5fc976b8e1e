"""Stands in for TensorRT, which nvtripy imports for the sake of its plugins."""

__version__ = "10.13.0"


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    # The same name is the same thing each time: data types are compared.
    made = globals()[name] = type(name, (), {"__module__": __name__})
    return made
