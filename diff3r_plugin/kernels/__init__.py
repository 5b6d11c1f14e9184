"""The mathematics of the renderer as one set of C++ headers, and the kernels made of them.

``math/`` holds every formula once, as templates over the number type that both compilers read. ``cpu/`` and ``cuda/``
are the kernels around them, each behind a plain C interface (``api.h``) on the same inputs (``math/inputs.h``).
``loading/`` compiles them at first use and loads them with ctypes.
"""
