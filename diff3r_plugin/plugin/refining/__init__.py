"""One step of the host: which calls are refined, with which weights, poses and pixel weights."""
