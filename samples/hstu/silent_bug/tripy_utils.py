"""Moves values between torch and the port."""

import nvtripy as tp
import torch


def copy_parameters(torch_state: dict, port: tp.Module) -> None:
    """Copies a torch state dict into the port.

    torch_state maps names to tensors, as from torch.nn.Module.state_dict().
    """
    port_state = {}
    for name, parameter in port.state_dict().items():
        value = torch_state.get(name)
        if value is None or tuple(value.shape) != tuple(map(int, parameter.shape)):
            continue
        port_state[name] = tp.Tensor(value.contiguous())
    port.load_state_dict(port_state, strict=False)


def to_gpu(tensor: torch.Tensor) -> tp.Tensor:
    """A torch tensor of any shape on the CPU as a Tripy tensor on the GPU."""
    return tp.copy(tp.Tensor(tensor.contiguous()), tp.device("gpu"))


def to_torch(tensor: tp.Tensor) -> torch.Tensor:
    """An evaluated Tripy tensor of any shape on the GPU as a torch tensor on the CPU."""
    return torch.from_dlpack(tp.copy(tensor, tp.device("cpu")))
