"""Moves values between torch and the port."""

import nvtripy as tp
import torch

# The port keeps the output projection as [in, out] under names of its own.
RENAMED = {"_o_weight": "_o.weight", "_o_bias": "_o.bias"}
TRANSPOSED = {"_o_weight"}


def copy_parameters(torch_state: dict, port: tp.Module) -> None:
    """Copies a torch state dict into the port.

    torch_state maps names to tensors, as from torch.nn.Module.state_dict().
    """
    port_state = {}
    for name, parameter in port.state_dict().items():
        prefix, dot, last_name = name.rpartition(".")
        value = torch_state[prefix + dot + RENAMED.get(last_name, last_name)]
        value = value.t() if last_name in TRANSPOSED else value
        if tuple(value.shape) != tuple(map(int, parameter.shape)):
            raise ValueError(f"{name}: a torch tensor of shape {tuple(value.shape)} does not fit")
        port_state[name] = tp.Tensor(value.contiguous())
    port.load_state_dict(port_state)


def to_gpu(tensor: torch.Tensor) -> tp.Tensor:
    """A torch tensor of any shape on the CPU as a Tripy tensor on the GPU."""
    return tp.copy(tp.Tensor(tensor.contiguous()), tp.device("gpu"))


def to_torch(tensor: tp.Tensor) -> torch.Tensor:
    """An evaluated Tripy tensor of any shape on the GPU as a torch tensor on the CPU."""
    return torch.from_dlpack(tp.copy(tensor, tp.device("cpu")))
