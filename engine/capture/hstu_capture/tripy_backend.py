"""Takes compiled programs over from nvtripy: writes them as traces and, under stand-ins, executes them."""

import os
import shutil
import sys
import tempfile
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from .cuda_emulation_names import CUDA_ON_CPU, ON_CUDA
from .engine_link import EngineFailure
from .safetensors_file import read_safetensors, write_safetensors
from .session import Session
from .tripy_programs import TripyProgram, value_of, write_program

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
    ) -> None:
        """`parameters` gives those of the model that is being compiled, with their trace tensors."""
        self._session = session
        self._tripy = nvtripy
        self._stand_ins = list(stand_ins)
        self._parameters = parameters

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
                write_program(program, self._parameters())
            return executable

        compiler.compile = compile_

    def _take_over(self) -> None:
        import mlir_tensorrt.runtime.api as runtime

        self._runtime = runtime
        trace_type = sys.modules["nvtripy.trace.trace"].Trace  # type: ignore[attr-defined]
        compiler = sys.modules["nvtripy.backend.mlir.compiler"].Compiler  # type: ignore[attr-defined]
        memref = sys.modules["nvtripy.backend.mlir.memref"]
        trace_type.to_mlir = lambda trace: trace
        compiler.compile = lambda this, module, trace=None: self._compile(module)
        runtime.executor = self._execute
        runtime.deserialiser = self._load
        memref.tolist = lambda value: value.array.tolist()  # type: ignore[attr-defined]
        view = memref.create_memref_view  # type: ignore[attr-defined]

        def create_memref_view(data: Any) -> Any:
            runtime.viewed = _as_array(runtime, data)
            try:
                return view(data)
            finally:
                runtime.viewed = None

        memref.create_memref_view = create_memref_view  # type: ignore[attr-defined]

    def _compile(self, trace: Any) -> Any:
        program = TripyProgram(trace, self._session, self._ran_on("engine"))
        if trace.input_infos is not None:
            write_program(program, self._parameters())
        return self._runtime.Executable(program)

    def _execute(self, executable: Any, arguments: List[Any]) -> List[Any]:
        program = executable.program
        on_host = program.on_host([argument.array for argument in arguments])
        if on_host is not None:
            space = self._runtime.PointerType.device
            return [self._runtime.MemRefValue(array, space) for array in on_host]
        if program.entry is None:
            write_program(program)
        return self._on_engine(program, arguments)

    def _on_engine(self, program: Any, arguments: Sequence[Any]) -> List[Any]:
        engine = self._session.engine
        if engine is None:
            raise self._runtime.MTRTException(_NO_ENGINE)
        number = len(program.entry.setdefault("executions", []))
        name = f"{program.name}.run-{number}"
        inputs = os.path.join(self._session.folder, f"{name}.inputs.safetensors")
        feeds = program.feeds(arguments)
        write_safetensors(inputs, feeds)
        execution: Dict[str, Any] = {"inputs": os.path.basename(inputs)}
        program.entry["executions"].append(execution)
        try:
            produced = engine.execute(program.path, inputs)
            tensors = read_safetensors(produced)
            missing = [output for output in program.output_names if output not in tensors]
            if missing:
                raise EngineFailure(f"the engine's answer lacks the output {missing[0]}")
        except (EngineFailure, OSError, ValueError) as error:
            execution["error"] = str(error)
            self._session.write_index()
            raise self._runtime.MTRTException(f"the engine could not run {program.label}: {error}") from None
        outputs = os.path.join(self._session.folder, f"{name}.outputs.safetensors")
        if os.path.abspath(produced) != outputs:
            shutil.copyfile(produced, outputs)
        execution["outputs"] = os.path.basename(outputs)
        self._session.write_index()
        return [value_of(self._runtime, *tensors[output]) for output in program.output_names]

    def _load(self, content: bytes) -> Any:
        from .tripy_programs import load_program

        return load_program(content, self._session)

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
