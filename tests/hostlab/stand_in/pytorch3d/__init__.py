"""Stand-in for pytorch3d, as far as SPFSplat and VicaSplat use it; an installed pytorch3d is behind it on the path."""
