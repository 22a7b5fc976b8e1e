"""Takes compiled programs over from nvtripy: writes them as traces and, under stand-ins, executes them."""

import functools
import os
import sys
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from .cuda_emulation_names import CUDA_ON_CPU, ON_CUDA
from .host_arithmetic import Misfit
from .import_hooks import after_import
from .session import Session
from .source_frames import SourceFrame, first_user_frame
from .tripy_executions import TripyExecutions
from .tripy_programs import TripyProgram, load_program, write_program
from .tripy_rules import refusal

_NO_ENGINE = (
    "This Tripy program computes with floating-point tensors, and nothing is here to run it: "
    "NVIDIA's backend is not installed and hstu_capture was started without an engine (--engine-fd)."
)


class TripyBackend:
    def __init__(
        self,
        session: Session,
        nvtripy: Any,
        stand_ins: Sequence[str],
        parameters: Callable[[], List[Tuple[Any, Any]]],
        compiled_object: Callable[[], Optional[int]],
    ) -> None:
        """
        `parameters` gives those of the model that is being compiled, with their trace tensors, `compiled_object` the
        number of that model or function.
        """
        self._session = session
        self._tripy = nvtripy
        self._stand_ins = list(stand_ins)
        self._parameters = parameters
        self._object = compiled_object
        # The file that an executable is being loaded from, and where the script does that.
        self._loading: Optional[Tuple[str, Optional[SourceFrame]]] = None

    def install(self) -> None:
        if "mlir_tensorrt" in self._stand_ins:
            self._take_over()
        else:
            self._listen()

    def _listen(self) -> None:
        """The real backend compiles and executes; the programs are only recorded."""
        compiler = sys.modules["nvtripy.backend.mlir.compiler"].Compiler  # type: ignore[attr-defined]
        original = compiler.compile

        def compile_(this: Any, module: Any, trace: Any = None) -> Any:
            executable = original(this, module, trace=trace)
            if trace is not None and trace.input_infos is not None and self._session.may_record("tripy"):
                program = TripyProgram(trace, self._session, self._ran_on("mlir_tensorrt"))
                write_program(program, self._parameters(), self._object())
            return executable

        compiler.compile = compile_

    def _take_over(self) -> None:
        import mlir_tensorrt.runtime.api as runtime

        self._runtime = runtime
        self._executions = TripyExecutions(self._session, runtime)
        trace_type = sys.modules["nvtripy.trace.trace"].Trace  # type: ignore[attr-defined]
        compiler = sys.modules["nvtripy.backend.mlir.compiler"].Compiler  # type: ignore[attr-defined]
        memref = sys.modules["nvtripy.backend.mlir.memref"]
        trace_type.to_mlir = lambda trace: trace
        compiler.compile = lambda this, module, trace=None: self._compile(module)
        runtime.executor = self._execute
        runtime.deserialiser = self._load
        self._observe_load()
        memref.tolist = lambda value: value.array.tolist()  # type: ignore[attr-defined]
        view = memref.create_memref_view  # type: ignore[attr-defined]

        def create_memref_view(data: Any) -> Any:
            runtime.viewed = _as_array(runtime, data)
            try:
                return view(data)
            finally:
                runtime.viewed = None

        memref.create_memref_view = create_memref_view  # type: ignore[attr-defined]
        if self._session.emulate_cuda:
            after_import("torch", self._mark_memory_given_to_torch)

    def _mark_memory_given_to_torch(self, torch: Any) -> None:
        """Where CUDA is emulated, torch's view of a tensor on the GPU must say that it is on the GPU as well."""
        original = torch.from_dlpack

        @functools.wraps(original)
        def from_dlpack(source: Any, *args: Any, **kwargs: Any) -> Any:
            tensor = original(source, *args, **kwargs)
            device = getattr(source, "device", None)
            if isinstance(source, self._tripy.Tensor) and device is not None and device.kind == "gpu":
                setattr(tensor, ON_CUDA, True)
            return tensor

        torch.from_dlpack = from_dlpack
        torch.utils.dlpack.from_dlpack = from_dlpack

    def _compile(self, trace: Any) -> Any:
        self._check(trace)
        program = TripyProgram(trace, self._session, self._ran_on("engine"))
        if trace.input_infos is not None:
            write_program(program, self._parameters(), self._object())
        return self._runtime.Executable(program)

    def _check(self, trace: Any) -> None:
        """What TensorRT's compiler would not take is refused in its words, with the line that asked for it."""
        for op in trace.ops:
            reason = refusal(op)
            if reason is not None:
                raise_error = sys.modules["nvtripy.common.exception"].raise_error  # type: ignore[attr-defined]
                raise_error(
                    f"failed to run pass pipeline: {reason}.", ["This originated from:", _where_made(op.outputs[0])]
                )

    def _execute(self, executable: Any, arguments: List[Any]) -> List[Any]:
        program = executable.program
        problem = program.misfit(arguments)
        if problem is not None:
            raise self._runtime.MTRTException(problem)
        try:
            on_host = program.on_host([argument.array for argument in arguments])
        except Misfit as error:
            raise self._runtime.MTRTException(str(error)) from None
        if on_host is not None and program.is_eager:
            # Sizes and other small values, of which a frontend asks for thousands.
            return program.values(self._runtime, on_host)
        if on_host is None and self._session.engine is None:
            raise self._runtime.MTRTException(_NO_ENGINE)
        return self._executions.run(program, arguments, on_host)

    def _load(self, content: bytes) -> Any:
        return load_program(content, self._session, self._loading)

    def _observe_load(self) -> None:
        """The bytes of an executable do not say which file they came from."""
        executable_type = sys.modules["nvtripy.backend.api.executable"].Executable  # type: ignore[attr-defined]
        original = executable_type.load

        @functools.wraps(original)
        def load(path: Any) -> Any:
            before = self._loading
            self._loading = (os.path.abspath(os.fspath(path)), first_user_frame(sys._getframe(1)))
            try:
                return original(path)
            finally:
                self._loading = before

        executable_type.load = staticmethod(load)

    def _ran_on(self, executor: str) -> Dict[str, Any]:
        stood_in = "mlir_tensorrt" in self._stand_ins
        return {
            "executor": executor,
            "provider": "cpu" if stood_in else "tensorrt",
            "device": "cpu" if stood_in else "gpu",
            "versions": self._session.versions(),
            "standIns": self._stand_ins,
            "emulated": [CUDA_ON_CPU] if stood_in else list(self._session.emulated),
        }


def _as_array(runtime: Any, data: Any) -> Any:
    """An object that offers DLPack as (numpy array of the same memory, element type, whether it is on the GPU)."""
    import numpy as np

    code: Optional[Any] = None
    on_device = bool(getattr(data, ON_CUDA, False))
    if isinstance(data, np.ndarray):
        return data, code, on_device
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(data, torch.Tensor):
        with torch._C.DisableTorchFunction():
            on_device = on_device or data.device.type == "cuda"
            tensor = data.detach().cpu()
            if tensor.dtype == torch.bfloat16:
                code, tensor = runtime.ScalarTypeCode.bf16, tensor.view(torch.int16)
                return tensor.numpy().view(np.uint16), code, on_device
            return tensor.numpy(), code, on_device
    return np.from_dlpack(data), code, on_device


def _where_made(trace_tensor: Any) -> Any:
    return trace_tensor if getattr(trace_tensor, "stack_info", None) else str(trace_tensor)
