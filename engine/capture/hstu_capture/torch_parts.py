"""
Layers of torch that a user's function calls. Such a function is written as others write the `forward` of a class: it
is recorded with its layers in it, and where it turns out to be no implementation, each layer is a trace of its own.
"""

import itertools
from types import FrameType
from typing import Any, NamedTuple, Optional

from .arguments import bound_arguments, named_tensors
from .session import Session
from .torch_active import ActiveCall
from .torch_arguments import Named, state_of
from .torch_calls import Call, Recorded, plain_values, shapes_of
from .torch_declarations import Declarations
from .torch_functions import Node


class EnteredPart(NamedTuple):
    node: Node
    inputs: Named


def is_part(torch: Any, module: Any) -> bool:
    """
    Whether a module is one of torch's own layers, with nothing in it: whoever calls a module of the user's or a
    container uses a whole model.
    """
    return type(module).__module__.startswith("torch.nn.modules.") and not module._modules


def was_made_within(active: Optional[ActiveCall], module: Any) -> bool:
    """Whether the function that is recorded made the layer itself: how it was initialised is none of its operations."""
    if active is None or active.recorder is None:
        return False
    known = [active.recorder.resolve(tensor) for _, tensor in state_of(module)]
    made = {tensor for op in active.recorder.ops for tensor in op.outputs}
    return any(entry is not None and entry[0] in made for entry in known)


def enter_part(
    torch: Any,
    session: Session,
    declarations: Declarations,
    active: ActiveCall,
    module: Any,
    args: Any,
    kwargs: Any,
    frame: FrameType,
) -> Optional[EnteredPart]:
    """`frame` is about to call a layer within the function that is recorded."""
    tree = active.tree
    if tree is None or active.recorder is None or active.recorder.failure is not None:
        return None
    with torch._C.DisableTorchFunction():
        arguments = bound_arguments(module.forward, args, kwargs)
        inputs = list(named_tensors(torch.Tensor, arguments))
        parameters = state_of(module)
        node = tree.entered_part(module, inputs, parameters, frame)
        _name_parameters(declarations, active, module, node)
        call = Call(torch, inputs, parameters, plain_values(arguments))
        node.recorded = Recorded(torch, session, call, inputs, parameters)
        node.key = (None, ((module.training,), shapes_of(torch, arguments, inputs)))
    return EnteredPart(node, inputs)


def leave_part(active: ActiveCall, entered: EnteredPart, result: Any) -> None:
    if active.tree is not None:
        active.tree.left_part(entered.node, result, entered.inputs)


def _name_parameters(declarations: Declarations, active: ActiveCall, module: Any, node: Node) -> None:
    """A layer that no variable leads to gives its parameters the name of its class."""
    trace = active.recorder.trace  # type: ignore[union-attr]
    for name, number in node.parameters:
        declared = declarations.find(module, name)
        if declared is not None:
            active.declared.setdefault(number, declared)
        if any(number == known["tensor"] for known in (*trace.parameters, *trace.inputs)):
            continue
        taken = {parameter["name"] for parameter in trace.parameters}
        labels = (f"{node.label}{f'.{count}' if count else ''}.{name}" for count in itertools.count())
        trace.add_parameter(next(label for label in labels if label not in taken), number, declared)
