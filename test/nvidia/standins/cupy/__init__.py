"""
Stands in for CuPy in NVIDIA's integration tests, which use it to read what is on the GPU: numpy arrays that say they are.

Only what those tests ask for is here. It belongs to the set-up of the tests and never reaches a user's script.
"""

import numpy as _np
from numpy import bool_, float16, float32, int8, int32, int64  # noqa: F401


class ndarray(_np.ndarray):
    # By this the agent knows that the memory counts as the GPU's.
    _hstu_capture_on_cuda = True

    def get(self):
        """A copy in the memory of the host."""
        return _np.array(self)

    def __array_wrap__(self, result, context=None, return_scalar=False):
        # CuPy gives arrays without axes where numpy gives scalars.
        return _np.asarray(result).view(type(self))

    def __getitem__(self, key):
        return _np.asarray(super().__getitem__(key)).view(type(self))


def _on_gpu(array):
    return _np.ascontiguousarray(array).reshape(_np.shape(array)).view(ndarray)


def array(values, dtype=None):
    return _on_gpu(_np.array(values, dtype))


def from_dlpack(source):
    return _on_gpu(_np.from_dlpack(source))


def arange(*bounds, dtype=None):
    return _on_gpu(_np.arange(*bounds, dtype=dtype))


def ones(shape, dtype=_np.float64):
    return _on_gpu(_np.ones(shape, dtype))


def repeat(values, repeats, axis=None):
    return _on_gpu(_np.repeat(values, repeats, axis))


def array_equal(first, second):
    return _np.array_equal(first, second)


def allclose(first, second, rtol=1e-05, atol=1e-08):
    return _np.allclose(first, second, rtol, atol)
