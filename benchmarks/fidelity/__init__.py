"""One module per question that `benchmarks.energy_fidelity` asks the energy model."""
