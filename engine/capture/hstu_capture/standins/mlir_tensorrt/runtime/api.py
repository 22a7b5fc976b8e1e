"""Memory is numpy's, "device" memory too; executables are run by whoever sets `executor`."""

import ctypes
import enum

import numpy as np

# Called as executor(executable, arguments) → list of MemRefValue. Set by the agent.
executor = None
# Called as deserialiser(bytes) → the program that Executable.serialize gave. Set by the agent.
deserialiser = None
# The object behind the DLPack capsule that is about to be viewed. Set by the agent: a capsule cannot be asked.
viewed = None


class MTRTException(Exception):
    pass


class PointerType(enum.Enum):
    host = 0
    device = 1


class ScalarTypeCode(enum.Enum):
    i1 = 0
    i4 = 1
    i8 = 2
    i32 = 3
    i64 = 4
    f8e4m3fn = 5
    f16 = 6
    bf16 = 7
    f32 = 8


# numpy has no bfloat16, float8 and int4. The first is kept as raw bits, the values of the others in a wider type.
_STORED_AS = {
    ScalarTypeCode.i1: np.dtype(np.bool_),
    ScalarTypeCode.i4: np.dtype(np.int8),
    ScalarTypeCode.i8: np.dtype(np.int8),
    ScalarTypeCode.i32: np.dtype(np.int32),
    ScalarTypeCode.i64: np.dtype(np.int64),
    ScalarTypeCode.f8e4m3fn: np.dtype(np.float32),
    ScalarTypeCode.f16: np.dtype(np.float16),
    ScalarTypeCode.bf16: np.dtype(np.uint16),
    ScalarTypeCode.f32: np.dtype(np.float32),
}
_NOT_NUMPY = {ScalarTypeCode.i4, ScalarTypeCode.f8e4m3fn, ScalarTypeCode.bf16}
_CODE_OF = {dtype: code for code, dtype in _STORED_AS.items() if code not in _NOT_NUMPY}
_DLPACK_CPU = (1, 0)
_DLPACK_BFLOAT = 4
# After the pointer to the data, the device (two int32) and the number of axes (int32).
_DLPACK_TYPE_CODE_AT = ctypes.sizeof(ctypes.c_void_p) + 12


class MemRefValue:
    def __init__(self, array, address_space=PointerType.host, code=None):
        self.array = array
        self.address_space = address_space
        self.dtype = _code_of(array.dtype) if code is None else code

    @property
    def shape(self):
        return list(self.array.shape)

    def __dlpack__(self, stream=None):
        if self.dtype is ScalarTypeCode.f8e4m3fn:
            raise MTRTException("Unsupported kFloat bits 8")
        if self.dtype is ScalarTypeCode.i4:
            raise MTRTException("Unsupported kInt bits 4")
        # numpy hands over no read-only memory.
        capsule = (self.array if self.array.flags.writeable else self.array.copy()).__dlpack__()
        if self.dtype is ScalarTypeCode.bf16:
            _call_bfloat16(capsule)
        return capsule

    def __dlpack_device__(self):
        return _DLPACK_CPU

    def __buffer__(self, flags):
        return memoryview(self.array)


class RuntimeClient:
    def get_devices(self):
        return [Device()]

    def create_stream(self):
        return Stream()

    def create_memref(self, array=None, shape=None, dtype=None, device=None, stream=None):
        stored_as = _STORED_AS[dtype]
        values = np.zeros(shape, stored_as) if array is None else np.array(array).astype(stored_as).reshape(shape)
        return MemRefValue(values, _space(device), dtype)

    def create_memref_view_from_dlpack(self, capsule, assert_canonical_strides=True):
        array, code, on_device = viewed
        strides = [stride // array.itemsize for stride in array.strides]
        canonical = _canonical_strides(array.shape)
        if assert_canonical_strides and array.size and not array.flags.c_contiguous:
            raise MTRTException(
                f"Given strides {strides} do not match canonical strides {canonical} for shape {list(array.shape)}"
            )
        return MemRefValue(array, PointerType.device if on_device else PointerType.host, code)

    def copy_to_device(self, host_memref=None, device=None, stream=None):
        return MemRefValue(host_memref.array.copy(), PointerType.device, host_memref.dtype)

    def copy_to_host(self, device_memref=None, existing_host_memref=None, stream=None):
        return MemRefValue(device_memref.array.copy(), PointerType.host, device_memref.dtype)


class Device:
    pass


class Stream:
    ptr = 0

    def sync(self):
        pass


class RuntimeSessionOptions:
    def __init__(self, num_devices=1, device_id=0):
        pass


class RuntimeSession:
    def __init__(self, options=None, executable=None):
        self._executable = executable

    def execute_function(self, name, in_args=(), stream=None, client=None):
        if executor is None:
            raise MTRTException("nothing is here that runs programs: start the script with hstu_capture")
        return executor(self._executable, list(in_args))


class Executable:
    """`program` has `output_count` and `serialise()`; bytes are such a program, serialised."""

    def __init__(self, program):
        if isinstance(program, (bytes, bytearray)):
            program = deserialiser(bytes(program))
        self.program = program

    def get_signature(self, name):
        return Signature(self.program.output_count)

    def serialize(self):
        return self.program.serialise()

    def get_data_segments(self):
        raise MTRTException("there is no TensorRT engine: the backend is stood in for")


class Signature:
    def __init__(self, results):
        self._results = results

    def get_num_results(self):
        return self._results


def _call_bfloat16(capsule):
    """Turns 16-bit unsigned integers into bfloat16: a field of DLTensor says what the elements are."""
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    address = get_pointer(capsule, b"dltensor") + _DLPACK_TYPE_CODE_AT
    ctypes.c_uint8.from_address(address).value = _DLPACK_BFLOAT


def _code_of(dtype):
    code = _CODE_OF.get(dtype)
    if code is None:
        raise MTRTException(f"nvtripy has no data type for {dtype}")
    return code


def _space(device):
    return PointerType.host if device is None else PointerType.device


def _canonical_strides(shape):
    strides, size = [], 1
    for length in reversed(shape):
        strides.insert(0, size)
        size *= length
    return strides
