"""What one evaluation of a recorded torch trace is asked for."""

from typing import Any, Dict, List, NamedTuple, Tuple


class BadRequest(Exception):
    pass


class Request(NamedTuple):
    outputs: List[int]
    # Their readers get this value.
    replace: Dict[int, Any]
    # Their readers get what is computed plus this.
    correct: Dict[int, Any]
    # Values of tensors that no op makes.
    parameters: Dict[int, Any]
    # Values for single operands: by an output of the op and the operand's position.
    operands: Dict[Tuple[int, int], Any]
    double: bool
    # What only makes replaced tensors need not run.
    trial: bool
    # Compares each op's results with the recorded ones and goes on with these: every mismatch is of its own making.
    verify: bool
