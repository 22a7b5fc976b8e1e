"""Plugins are described to TensorRT by decorated functions. They stay what they are: nothing here can run a plugin."""


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {"__module__": __name__})


def register(name, *args, **kwargs):
    return _unchanged


def impl(name, *args, **kwargs):
    return _unchanged


def aot_impl(name, *args, **kwargs):
    return _unchanged


def autotune(name, *args, **kwargs):
    return _unchanged


def _unchanged(function):
    return function
