"""gcompile beside the runtimes and compilers its users already have."""
