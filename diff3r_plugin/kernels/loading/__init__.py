"""Compile the kernels at first use, keep them in the user's cache directory, and load them with ctypes."""
