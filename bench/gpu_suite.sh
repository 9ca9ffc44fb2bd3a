#!/usr/bin/env bash
# Everything that needs a GPU, in one command and within 8 minutes: build for this machine's Python, GPU
# tests, benches, compute-sanitizer on a small run. A short table comes last; results are JSON.
#
#   bench/gpu_suite.sh [OUT]     default OUT: bench/results/<name of the GPU>
#
# A step that fails is reported, in the table and in the exit status, and the others go on. Needs no
# network: torch with CUDA, triton, pybind11, scikit-build-core, cmake, nvcc and pytest must be there.
# Wheels in a folder wheels/ (flash-kmeans, a peer) are installed in addition to the build. PYTHON: another Python.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

python=${PYTHON:-python3}
budget=${RLMBA_SUITE_SECONDS:-470}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
site=$work/site
steps=$work/steps.tsv
failed=0
: >"$steps"

note() { printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "${4:-}" >>"$steps"; }

# step NAME LIMIT COMMAND...: run it, for LIMIT seconds at most, its words kept in OUT/logs/NAME.log
step() {
  local name=$1 limit=$2 begin=$SECONDS status log=$out/logs/$1.log
  shift 2
  if ((limit > budget - SECONDS)); then limit=$((budget - SECONDS)); fi
  if ((limit < 5)); then
    note FAILED 0 "$name" "no time left for it"
    failed=1
    return 1
  fi
  printf '== %s (at most %s s)\n' "$name" "$limit"
  timeout --kill-after=5 "$limit" "$@" >"$log" 2>&1 </dev/null
  status=$?
  if ((status == 0)); then
    note ok $((SECONDS - begin)) "$name" "$(summary "$log")"
    return 0
  fi
  tail -n 25 "$log"
  if ((status == 124 || status == 137)); then
    note FAILED $((SECONDS - begin)) "$name" "stopped after $limit s"
  else
    note FAILED $((SECONDS - begin)) "$name" "exit status $status; $(summary "$log")"
  fi
  failed=1
  return 1
}

# The line of a log that says most: pytest's or compute-sanitizer's last.
summary() {
  grep -E '(passed|failed|error)[^|]* in [0-9.]+s|ERROR SUMMARY|RACECHECK SUMMARY' "$1" | tail -n 1 |
    tr -d '=\t' | sed 's/^ *//; s/ *$//' | cut -c1-70
}

build() {
  SKBUILD_CMAKE_DEFINE="RLMBA_CUDA=ON;RLMBA_WERROR=ON" \
    "$python" -m pip install --quiet --no-build-isolation --no-deps --no-index --target "$site" . || return
  if compgen -G 'wheels/*.whl' >/dev/null; then
    "$python" -m pip install --quiet --no-deps --no-index --target "$site" wheels/*.whl ||
      echo "the wheels in wheels/ were not installed: the benches go on without them"
  fi
  # A package installed by --target has no folder of its own for its extension: say which one serves.
  "$python" -c 'from rlmba import _core, _cuda; print(_core.__file__, _cuda.__file__, sep="\n")'
}

gpu_tests() {
  local -a workers=()
  if "$python" -c 'import xdist' 2>/dev/null; then
    workers=(-n "${RLMBA_SUITE_WORKERS:-8}" --maxprocesses=64)
  else
    workers=(-o "addopts=-ra --import-mode=importlib")  # those of pyproject.toml need pytest-xdist
  fi
  RLMBA_REQUIRE_CUDA=1 "$python" -m pytest -q -m gpu -p no:cacheprovider "${workers[@]}" \
    tests/kernels tests/bench
}

# sanitize TOOL: every CUDA operation at its tiny size; each allocation on its own, so that none hides
# a neighbour's overrun.
sanitize() {
  local tool=$1 program
  program=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
  if [[ ! -x $program ]]; then
    note absent 0 "$tool" "no compute-sanitizer"
    return
  fi
  if ((budget - SECONDS > 40)) && ! timeout 30 "$program" --tool "$tool" --error-exitcode 9 "$python" -c \
    'import torch; torch.ones(1, device="cuda").add_(1); torch.cuda.synchronize()' \
    >"$out/logs/$tool.log" 2>&1 && grep -qi 'not supported' "$out/logs/$tool.log"; then
    note absent 0 "$tool" "compute-sanitizer does not support this device"
    return
  fi
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 step "$tool" 60 "$program" --tool "$tool" --error-exitcode 9 \
    "$python" -m bench.gpu check --tiny --backends cuda
}

export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1
export -f build gpu_tests
export python site

slug=$("$python" -c 'import re, torch
name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no gpu"
print(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"))') || exit 1
out=${1:-bench/results/$slug}
mkdir -p "$out/logs"
out=$(cd "$out" && pwd)

if step build 180 bash -c build; then
  step tests 150 bash -c gpu_tests
  step benches 160 "$python" -m bench.gpu run "$out" --seconds $((budget - SECONDS < 160 ? budget - SECONDS - 10 : 150))
  sanitize memcheck
  sanitize racecheck
  "$python" -m bench.gpu table "$out" --steps "$steps"
else
  cat "$steps"
fi
exit $failed
