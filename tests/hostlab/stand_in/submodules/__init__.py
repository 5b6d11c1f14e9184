"""C3G imports its rasterizers from a folder of this name in its checkout, where they are CUDA extensions."""
