"""
Plugins are described to TensorRT by decorated functions. They can be described and be put into a program here, so that
the rest of the program is traced; nothing here can run one.
"""

import inspect


class ShapeExprs:
    def __init__(self, length, _is_dummy=False):
        self._length = length

    def __len__(self):
        return self._length


class TensorDesc:
    dtype = None
    shape_expr = None

    def like(self):
        desc = TensorDesc()
        desc.dtype, desc.shape_expr = self.dtype, self.shape_expr
        return desc


class _Namespace:
    pass


# op.NAMESPACE.NAME is a plugin that was described.
op = _Namespace()


class _Plugin:
    def __init__(self, describe):
        self._describe = describe
        self.input_attrs = {
            name: parameter.annotation
            for name, parameter in inspect.signature(describe).parameters.items()
            if parameter.annotation is not TensorDesc
        }

    def register_func(self, *arguments):
        *descs, attributes = arguments
        return self._describe(*descs, **attributes)


def register(plugin_id, lazy_register=False):
    namespace, _, name = plugin_id.partition("::")

    def keep(describe):
        if not hasattr(op, namespace):
            setattr(op, namespace, _Namespace())
        setattr(getattr(op, namespace), name, _Plugin(describe))
        return describe

    return keep


def impl(plugin_id):
    return _unchanged


def aot_impl(plugin_id):
    return _unchanged


def autotune(plugin_id):
    return _unchanged


def _unchanged(function):
    return function


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    made = globals()[name] = type(name, (), {"__module__": __name__})
    return made
