#!/usr/bin/env bash
# A SLURM of one node, everything of it below FOLDER: starts munged, slurmctld and slurmd, runs COMMAND with SLURM_CONF set, and ends
# them. Needs root (Debian: slurmctld, slurmd, slurm-client, munge).
#
#   tests/support/slurm.sh FOLDER COMMAND…
set -euo pipefail
folder=$(realpath -m "$1")
shift
mkdir -p "$folder"/{state,spool}
port=$((20000 + $$ % 20000)) host=$(hostname)
dd if=/dev/urandom of="$folder/munge.key" bs=128 count=1 status=none
chmod 700 "$folder"
chmod 400 "$folder/munge.key"
cat >"$folder/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,requeue_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MinJobAge=300
KillWait=60
ReturnToService=2
SlurmdTimeout=60
NodeName=$host NodeAddr=127.0.0.1 CPUs=1 Sockets=1 CoresPerSocket=1 ThreadsPerCore=1 RealMemory=100 State=UNKNOWN
PartitionName=low Nodes=$host Default=YES PriorityTier=1 GraceTime=0 PreemptMode=REQUEUE MaxTime=INFINITE State=UP
PartitionName=high Nodes=$host PriorityTier=9 PreemptMode=OFF MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$folder/slurm.conf"
started=()
end() {
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
}
trap end EXIT
munged --foreground --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munge.pid" \
  --log-file="$folder/munge.log" --seed-file="$folder/munge.seed" >"$folder/munge.out" 2>&1 &
started+=($!)
for _ in $(seq 100); do [ -S "$folder/munge.socket" ] && break; sleep 0.1; done
slurmctld -D -c >"$folder/slurmctld.out" 2>&1 &
started+=($!)
slurmd -D -c >"$folder/slurmd.out" 2>&1 &
started+=($!)
for _ in $(seq 300); do
  sinfo -h -p low -o %T 2>/dev/null | grep -q idle && break
  sleep 0.1
done
sinfo -h -p low -o %T | grep -q idle || { tail -20 "$folder"/*.out "$folder"/*.log >&2; echo "SLURM did not start" >&2; exit 1; }
"$@"
