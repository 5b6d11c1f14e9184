"""Stand-in for pytorch3d, as far as SPFSplat uses it; an installed pytorch3d is behind it on the path."""
