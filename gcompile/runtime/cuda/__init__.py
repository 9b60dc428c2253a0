"""Running an artefact on an NVIDIA GPU, through nothing but the driver's own library."""
