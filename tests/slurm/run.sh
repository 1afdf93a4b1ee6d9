#!/usr/bin/env bash
# Runs the smoke tier through a real Slurm on this machine: one node on loopback with a fake GPU.
# Cancels a training job in flight, sees Snakemake start it again, and stops what it started.
#
#   tests/slurm/run.sh PYTHON   # as root on Debian; `make slurm` calls it
#
# PYTHON has requirements.lock and requirements-slurm.lock.
set -euo pipefail
python=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

say() { echo "slurm test: $*"; }

[[ $(id -u) == 0 ]] || { say 'skipped: only root may start a cluster'; exit 77; }
if ! { command -v slurmctld && command -v slurmd && command -v munged; } >/dev/null; then
    command -v apt-get >/dev/null || { say 'skipped: neither Slurm nor apt-get is here'; exit 77; }
    say 'installing slurm-wlm and munge'
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge >/dev/null ||
        { say 'skipped: slurm-wlm and munge cannot be installed'; exit 77; }
fi
# Snakemake's plugin strips SLURM_* from jobs, so the configuration must lie in /etc/slurm.
for file in /etc/slurm/slurm.conf /etc/slurm/gres.conf; do
    [[ ! -e $file ]] || { say "refused: $file exists; this is a cluster's own machine"; exit 1; }
done

work=$(mktemp -d)
chmod 755 "$work"
stop() {
    status=$?
    say 'stopping'
    [[ -z ${workflow:-} ]] || kill -9 "$workflow" 2>/dev/null || true
    for daemon in slurmd slurmctld munged; do
        [[ ! -s $work/$daemon.pid ]] || kill "$(cat "$work/$daemon.pid")" 2>/dev/null || true
    done
    rm -f /etc/slurm/slurm.conf /etc/slurm/gres.conf
    ((status == 0)) || tail -n 60 "$work"/*.log >&2 || true
    rm -rf "$work"
    exit "$status"
}
trap stop EXIT

say "starting munged, slurmctld and slurmd ($(slurmctld -V))"
mkdir -p /etc/slurm "$work/munge" "$work/state" "$work/spool"
dd if=/dev/urandom of="$work/munge/key" bs=1024 count=1 status=none
chmod 700 "$work/munge"
chmod 400 "$work/munge/key"
munged --force --key-file="$work/munge/key" --socket="$work/munge.socket" \
    --pid-file="$work/munged.pid" --log-file="$work/munge.log" --seed-file="$work/munge/seed"
cat >/etc/slurm/gres.conf <<EOF
NodeName=localhost Name=gpu File=/dev/null
EOF
cat >/etc/slurm/slurm.conf <<EOF
ClusterName=smoke
SlurmctldHost=localhost
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
CredType=cred/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SchedulerParameters=batch_sched_delay=0,sched_interval=2
GresTypes=gpu
NodeName=localhost CPUs=$(nproc) RealMemory=$(free -m | awk '/^Mem:/ {print int(0.9 * $2)}') Gres=gpu:1
PartitionName=smoke Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
slurmctld -i
slurmd -N localhost
for _ in $(seq 30); do
    sinfo --noheader --format=%T 2>/dev/null | grep -q idle && break
    sleep 1
done
sinfo --Node --long

copy=$work/checkout
mkdir "$copy"
(cd "$root" && cp -r Snakefile workflow src envs "$copy")
cd "$copy"
export PATH="$(dirname "$python"):$PATH"
say 'starting the workflow'
"$python" -m snakemake --workflow-profile workflow/profiles/slurm \
    --config tier=smoke \
    --default-resources slurm_account=root slurm_partition=smoke mem_mb=1000 runtime=30 gpu=1 \
    --slurm-status-command squeue --slurm-init-seconds-before-status-checks 3 \
    --seconds-between-status-checks 3 --latency-wait 10 all >"$work/snakemake.log" 2>&1 &
workflow=$!

say 'waiting for a job that has the GPU, and for a training job in flight'
gpu=
training=
deadline=$((SECONDS + 300))
while [[ -z $training ]]; do
    ((SECONDS < deadline)) || { say 'no training job ran within five minutes'; exit 1; }
    kill -0 "$workflow" 2>/dev/null || { say 'the workflow ended too early'; exit 1; }
    sleep 0.3
    for job in $(squeue --noheader --states=RUNNING --format=%i); do
        described=$(scontrol show job "$job")
        gpu+=$(grep -o 'TresPer.*gpu.*' <<<"$described" || true)
        grep -q 'Comment=.*train_' <<<"$described" && training=$job
    done
done
[[ -n $gpu ]] || { say 'no job had the GPU'; exit 1; }
say "a job had the GPU: ${gpu:0:40}"
squeue --long
scontrol show job "$training" | grep -E 'JobId|Comment|TresPerNode|TRES=' || true
say "cancelling job $training"
scancel "$training"

wait "$workflow" || { say 'the workflow failed'; exit 1; }
grep -E 'steps \(100%\) done' "$work/snakemake.log"
grep 'Trying to restart' "$work/snakemake.log" || { say 'no job was started again'; exit 1; }
ls results/smoke/claims.csv results/smoke/report.html paper_figures/smoke/*.png
say 'passed: the cancelled job was started again, and every result is there'
