"""The frontend names MLIR's types in annotations; it makes none of them before the agent takes the program over."""


class Context:
    def enable_multithreading(self, enable):
        pass


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {"__module__": __name__})
