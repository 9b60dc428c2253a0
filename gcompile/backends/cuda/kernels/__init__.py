"""The kernels as tile programs: one builder for each kind of work."""
