"""Networks that tell the layer what to trust: proximal weights Λ per Gaussian, confidence w per pixel.

* ``uncertainty``: `UncertaintyHead`, Λ of pixel-aligned Gaussians on one grid
* ``pyramid``: `PyramidHead`, Λ of Gaussians on several grids
* ``projected``: `ProjectedHead`, Λ of Gaussians on no grid, from where they project
* ``weight_head``: what these share
* ``confidence``: `ConfidenceHead`, the pixel weights w
* ``cross_view``: each view as the other views predict it, an input of both
"""
