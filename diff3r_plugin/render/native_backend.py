"""placeholder until the kernels land."""


def is_available() -> bool:
    return False
