"""The numbers that define the image formation; every backend uses these and no others.

The native kernels carry the same constants under the same names (``kernels/``), and a test compares the two.
"""

ALPHA_CAP = 0.99
"""Largest alpha of one splat at one pixel: 0.99 in the hosts' rasterizers and gsplat's main, 0.999 in gsplat 1.5.x."""

ALPHA_SKIP = 1.0 / 255.0
"""Splats with a smaller alpha at a pixel are not rendered there."""

TRANSMITTANCE_STOP = 1.00001e-4
"""A splat that would bring the transmittance below this, and everything behind it, is not rendered.

A hundred-thousandth above the 1e-4 of 3D Gaussian splatting: two saturated splats leave (1 - ALPHA_CAP)², which is 1e-4
to the last digit, and rounding alone would decide whether the second one is rendered. In float32 the rasterizers of
hosts and gsplat stop there (1 - 0.99 rounds down); with the margin ``native`` and ``torch`` do, in every precision. The
``gsplat`` backend follows gsplat, which renders in float32 and goes on above 1e-4 itself.
"""

FRUSTUM_MARGIN = 0.3
"""The perspective Jacobian is evaluated at most this share of tan(fov/2) outside the image."""

COLOR_OFFSET = 0.5
"""Color = max(0, SH(direction) + COLOR_OFFSET)."""
