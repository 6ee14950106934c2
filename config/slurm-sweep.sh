#!/bin/bash
# Runs a sweep as a SLURM job array, one training for each task:
#
#   sbatch --array=0-$(($(haltere sweep sweep.toml --count) - 1)) slurm-sweep.sh sweep.toml
#
# The folder of the results must be one that all nodes share. A task that is preempted saves a checkpoint when SLURM sends SIGTERM; one
# that comes near its time limit, at SIGUSR1. Either continues from there when it runs again. In a container:
# HALTERE="apptainer exec haltere.sif haltere".
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
#SBATCH --time=04:00:00

${HALTERE:-haltere} sweep "$@" --index "$SLURM_ARRAY_TASK_ID" &
training=$!
# SLURM sends SIGTERM to the training as well, and a second one would end it at once.
trap 'preempted=yes; kill -USR1 $training' TERM
trap 'kill -USR1 $training' USR1
wait $training
code=$?
# A signal ends the first wait at once; the second waits for the checkpoint.
while kill -0 $training 2>/dev/null; do
  wait $training
  code=$?
done

# 130: stopped, with a checkpoint. 7: a file could not be written, such as on a shared folder that was away; the checkpoint before is whole.
# SLURM puts a preempted task back into the queue by itself; the others are put back here.
if [ -z "${preempted:-}" ] && { [ $code = 130 ] || [ $code = 7 ]; } && [ "${SLURM_RESTART_COUNT:-0}" -lt 20 ]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" && sleep 60
fi
exit $code
