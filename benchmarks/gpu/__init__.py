"""The GPU check: correctness, figures, memory and training of the ``gsplat`` backend on one device.

``benchmarks/gpu_check.sh`` runs it; each part is a module that runs in a process of its own and writes its results as
they come, so that a part that hangs, crashes or runs out of time loses nothing but itself.
"""
