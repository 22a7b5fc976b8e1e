"""The names that a kernel's signature needs."""


class constexpr:
    pass
