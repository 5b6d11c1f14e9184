"""The mathematics of the renderer as one set of C++ headers, and the CPU kernels made of them.

``splat_math.h``, ``harmonics.h``, ``pixel_math.h`` and ``dual.h`` hold every formula once, as templates over the
number type that host and device code can call. ``build.py`` compiles the CPU kernels at first use, ``library.py``
loads them through a plain C interface (``api.h``).
"""
