"""Where the user's code declares the parameters and buffers of modules."""

import functools
import sys
from typing import Any, Dict, List, Optional, Tuple

from .identity_map import IdentityMap
from .source_frames import SourceFrame, first_user_frame
from .torch_active import is_users


class Declarations:
    """Where the user's code declares each parameter and buffer."""

    def __init__(self) -> None:
        self._of_module: IdentityMap[Dict[str, SourceFrame]] = IdentityMap(dict)
        # A deep copy of a module was never assigned to: its class declares the same names at the same lines.
        self._of_class: Dict[Tuple[type, str], SourceFrame] = {}
        self._constructed: IdentityMap[List[Optional[SourceFrame]]] = IdentityMap(list)

    def install(self, nn: Any) -> None:
        module_type, parameter_type = nn.Module, nn.Parameter
        set_attribute = module_type.__setattr__
        register_parameter = module_type.register_parameter
        register_buffer = module_type.register_buffer

        init = module_type.__init__

        @functools.wraps(init)
        def observed_init(module: Any, *args: Any, **kwargs: Any) -> None:
            init(module, *args, **kwargs)
            place = self._constructed.of(module)
            if not place:
                place.append(None if is_users(module) else first_user_frame(sys._getframe(1)))

        @functools.wraps(set_attribute)
        def observed_set(module: Any, name: str, value: Any) -> None:
            set_attribute(module, name, value)
            if isinstance(value, parameter_type) or name in module.__dict__.get("_buffers", ()):
                self._note(module, name, value)

        @functools.wraps(register_parameter)
        def observed_parameter(module: Any, name: str, param: Any) -> None:
            register_parameter(module, name, param)
            self._note(module, name, param)

        @functools.wraps(register_buffer)
        def observed_buffer(module: Any, name: str, tensor: Any, *args: Any, **kwargs: Any) -> None:
            register_buffer(module, name, tensor, *args, **kwargs)
            self._note(module, name, tensor)

        module_type.__init__ = observed_init
        module_type.__setattr__ = observed_set
        module_type.register_parameter = observed_parameter
        module_type.register_buffer = observed_buffer

    def find(self, module: Any, name: str) -> Optional[SourceFrame]:
        return self._of_module.of(module).get(name) or self._of_class.get((type(module), name))

    def constructed(self, module: Any) -> Optional[SourceFrame]:
        """Where the user's code made a module of a library; None for the user's own and for copies."""
        return next(iter(self._constructed.of(module)), None)

    def _note(self, module: Any, name: str, value: Any) -> None:
        declared = self._of_module.of(module)
        if value is None or name in declared:
            return
        frame = first_user_frame(sys._getframe(2))
        if frame is not None:
            declared[name] = frame
            self._of_class.setdefault((type(module), name), frame)
