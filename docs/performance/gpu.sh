#!/usr/bin/env bash
# What one CUDA device shows: the tests marked `gpu`, then the figures of marl on it, on this machine's CPU, and of JaxMARL.
#
#   OUT=DIR [LIMIT=SECONDS] [ONLY=REGEX] bash docs/performance/gpu.sh
#
# from the root of the tree. Records are appended to $OUT/gpu.jsonl; the whole output is in $OUT/gpu.log, the tests' in
# $OUT/tests.log. Each step has its own time limit, a failed one stops nothing, and none begins LIMIT seconds (300)
# after the start; the end tells which failed and which were left. They stand in the order of their worth. The first two
# run side by side: the tests, and what compiles all that is timed later, so that the later steps find it in Inductor's
# cache. ONLY names steps to run, as in ONLY='^(warm|r1)'. JaxMARL is timed where it is installed.
#
# PYTHON, and without a GPU DEVICE=cpu SMALL=1 (tiny sizes), are for trying this script.
set -u
: "${OUT:?set OUT to a folder for the records}"
python=${PYTHON:-python3} device=${DEVICE:-cuda} limit=${LIMIT:-300} only=${ONLY:-.}
export PYTHONUNBUFFERED=1 WANDB_MODE=offline XLA_PYTHON_CLIENT_PREALLOCATE=false MARL_DEVICE=$device
export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-/tmp/inductor}
mkdir -p "$OUT"
exec > >(tee -a "$OUT/gpu.log") 2>&1
records=$OUT/gpu.jsonl failed='' left='' most=60

step() { # NAME SECONDS COMMAND...
    local name=$1 began=$SECONDS
    most=$2
    shift 2
    [[ $name =~ $only ]] || return 0
    if ((SECONDS >= limit)); then
        left+=" $name"
        return 0
    fi
    echo "=== $name"
    "$@" || failed+=" $name"
    echo "--- $name took $((SECONDS - began)) s, $SECONDS s in all"
}

py() { timeout -k 5 "$most" "$python" "$@" 2>&1 | grep -v '^ *$' | tail -n 6; return "${PIPESTATUS[0]}"; }
speed() { py -m marl speed evaluation_episodes=1 "$@" --json "$records"; } # settings before options

spread=(task=mpe/simple_spread device="$device" steps=25)
learn=("${spread[@]}" algorithm=mappo num_envs=4096)
r1=(experiment=speed_r1 threads=0) r3=(experiment=speed_r3_masac device="$device")
informarl=(experiment=informarl_target device="$device" num_envs=1024 algorithm.minibatch_size=6400)
aloha=(experiment=bayes_aloha device="$device" num_envs=1024)
many=(1024 16384 65536)
if [[ -n ${SMALL:-} ]]; then
    learn+=(num_envs=8) informarl+=(num_envs=8) aloha+=(num_envs=8) many=(16)
    r1+=(num_envs=2 steps=10 algorithm.epochs=1 threads=1) r3+=(num_envs=2 steps=10)
fi
compiled=(algorithm.compile=true) eager=(algorithm.compile=false) world=(task.kwargs.compile=true)
# Compiled learning needs torch 2.13: with an older one its steps are left out.
"$python" -c 'import torch; exit(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 13))' && graphs=1 || graphs=''

warm() { # the figures are of no use
    local records=/dev/null once=(--iterations 1)
    if [[ $graphs ]]; then
        speed "${r1[@]}" device="$device" algorithm.epochs=1 "${once[@]}" &
        speed "${r1[@]}" device=cpu algorithm.epochs=1 "${once[@]}" &
        speed "${r3[@]}" algorithm.frames_per_update=600 "${once[@]}" &
        speed "${learn[@]}" "${compiled[@]}" "${world[@]}" "${once[@]}" &
        speed "${informarl[@]}" "${compiled[@]}" "${once[@]}" &
    fi
    for n in "${many[@]}"; do speed "${spread[@]}" num_envs="$n" "${world[@]}" --environment "${once[@]}" & done
    wait
}

tests() {
    timeout -k 5 "$most" "$python" -m pytest -m gpu -n "${TESTS:-6}" --dist load -p no:cacheprovider --durations 5 \
        --show-capture=no --tb=short tests/test_gpu.py > "$OUT/tests.log" 2>&1
    local code=$?
    tail -n 120 "$OUT/tests.log"
    return $code
}

first() { # whichever of the two are asked for, side by side
    step warm "$most" warm > "$OUT/warm.log" 2>&1 &
    step tests "$most" tests
    local code=$?
    wait $!
    return $code
}

step device 20 nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
step device 60 py -c "import os, torch; print(torch.__version__, torch.cuda.is_available(), os.cpu_count(), 'cores')"
most=130 && first

alone=(--environment --iterations 20)
for n in "${many[@]}"; do
    step "env-$n" 40 speed "${spread[@]}" num_envs="$n" "${alone[@]}"
    step "env-$n-compiled" 60 speed "${spread[@]}" num_envs="$n" "${world[@]}" "${alone[@]}"
    "$python" -c 'import importlib.util as u; exit(u.find_spec("jaxmarl") is None)' &&
        step "jaxmarl-$n" 40 py docs/performance/jaxmarl_steps.py "$n" 2
done
[[ $graphs ]] && step r1-compiled 60 speed "${r1[@]}" device="$device" "${compiled[@]}" --iterations 2
step r1 60 speed "${r1[@]}" device="$device" "${eager[@]}" --iterations 1
step r1-cpu 60 speed "${r1[@]}" device=cpu "${eager[@]}" --iterations 1
step learn 40 speed "${learn[@]}" "${eager[@]}" --iterations 3
[[ $graphs ]] && step learn-compiled 60 speed "${learn[@]}" "${compiled[@]}" "${world[@]}" --iterations 3
step learn-world 60 speed "${learn[@]}" "${eager[@]}" "${world[@]}" --iterations 3
[[ $graphs ]] && step r1-cpu-compiled 60 speed "${r1[@]}" device=cpu "${compiled[@]}" --iterations 1
[[ $graphs ]] && step r3-compiled 80 speed "${r3[@]}" "${compiled[@]}" --iterations 1
step r3 60 speed "${r3[@]}" "${eager[@]}" --iterations 1
[[ $graphs ]] && step informarl-compiled 60 speed "${informarl[@]}" "${compiled[@]}" --iterations 2
step informarl 60 speed "${informarl[@]}" "${eager[@]}" --iterations 2
step aloha 40 speed "${aloha[@]}" --iterations 2
step aloha-learned 60 speed "${aloha[@]}" algorithm.joint.graph=learned --iterations 2

echo "failed:${failed:- none}"
echo "left:${left:- none}"
