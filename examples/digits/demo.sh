#!/usr/bin/env bash
# The whole loop on this machine: build → push → prove → serve → report. Safe to repeat and to interrupt.
# Everything it makes lies in build/demo; the device it starts is stopped and removed at the end.
set -euo pipefail
example=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$example/../../build/demo" && cd "$example/../../build/demo"
export EDGEKIT_STORE="sqlite:///$PWD/reports.db"
host="generic-$(uname -m | tr _ -)"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*" && "$@"; }

stop() { [ ! -d .edgekit/devices/desk ] || edgekit device simulate desk --stop; }
trap stop EXIT
stop >/dev/null
rm -rf bundles edgekit.toml fleet.toml reports.db

say "1. A project: the model, its data and the targets stand in edgekit.toml"
run edgekit init
[ -f signing_key ] || ssh-keygen -q -t ed25519 -N '' -C edgekit-demo -f signing_key </dev/null
cat >edgekit.toml <<TOML
app = "digits"
version = "1.0"
model = "$example/digits.onnx"
targets = ["pi", "$host"]
signing_key = "signing_key"

[data]
calibration = "$example/calibration.npz"
evaluation = "$example/evaluation.npz"
TOML

say "2. Build for a Raspberry Pi 5 and for this machine: int8 is measured beside float, the better one is signed"
run edgekit build

say "3. A device: an OpenSSH server on the loopback where there is one, a folder otherwise"
run edgekit device simulate desk
run edgekit device setup desk --offline

say "4. Push: verified, proven on the device's own engine, switched over at once"
run edgekit push --to desk
run edgekit status

say "5. The loop on the device (examples/digits/loop.py)"
home=$PWD/.edgekit/devices/desk/home
config=.edgekit/devices/desk/ssh_config
if [ -f "$config" ] && command -v ssh >/dev/null; then
    scp -q -F "$config" "$example/loop.py" "$example/evaluation.npz" "desk:$home/"
    run ssh -F "$config" desk "cd '$home' && env/bin/python loop.py evaluation.npz"
else
    cp "$example/loop.py" "$example/evaluation.npz" "$home/"
    (cd "$home" && EDGEKIT_HOME=$home run env/bin/python loop.py evaluation.npz)
fi

say "6. How the release got on there, and the latency that came back"
run edgekit why
run edgekit report
say "Done. Next: README.md, or .venv/bin/edgekit --help"
