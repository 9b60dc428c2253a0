#!/usr/bin/env bash
# Fail a build when a change makes the model cost more energy than before.
#
#     bash examples/03_energy_gate_in_ci.sh
#
# Keep the report.json of the version you ship; here it is built first, as a stand-in. Reports are
# comparable when they were made for the same target: name a device rather than `cpu` if your CI
# machines differ.
set -euo pipefail
cd "$(dirname "$0")"

out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT

data=(--calib digits_calib.npz --eval digits_eval.npz)
gcompile digits_cnn.onnx --target cpu --budget -70% --max-drop 1% "${data[@]}" -o "$out/shipped" --quiet
gcompile digits_cnn.onnx --target cpu --precision fp32 "${data[@]}" -o "$out/candidate" --quiet

# Exit code 1: more energy than tolerated. This candidate lost its int8 layers, so the gate stops it.
if gcompile compare "$out/shipped" "$out/candidate" --tolerance 2%; then
    echo "the candidate may ship"
else
    echo "the candidate costs too much energy"
fi
