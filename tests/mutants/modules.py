"""The modules that `make mutants` breaks at random, each with the tests that must notice: the quick ones near it.

A survivor is tried again with more tests before it is called a gap.
"""

from __future__ import annotations

_ANSWERS = "tests/contract/test_answers.py tests/contract/test_posts.py tests/contract/test_states.py"
_CALLS = "tests/process/calls/test_predict.py tests/process/calls/test_errors.py tests/process/calls/test_strings.py"
_HOSTILE = "tests/faults/hostile/test_fuzz_headers.py tests/faults/hostile/test_hostile_worker.py"
_DEATHS = "tests/process/broker/test_supervise.py tests/faults/deaths/test_restart.py"
_WIRE = "tests/unit/wire/test_layout.py tests/unit/wire/test_tensors.py tests/unit/wire/test_signature.py"

MODULES: dict[str, str] = {
    # -- the data plane
    "broker/data_plane/slot.py": f"{_ANSWERS} tests/contract/test_unwanted.py {_CALLS} "
    f"tests/process/calls/test_answers.py {_HOSTILE}",
    "broker/data_plane/region.py": f"tests/unit/data_plane/test_region.py {_ANSWERS} {_CALLS} "
    f"tests/process/calls/test_answers.py {_HOSTILE}",
    "broker/data_plane/prepared.py": f"{_ANSWERS} {_CALLS} {_HOSTILE}",
    "broker/data_plane/channel.py": f"{_HOSTILE} {_CALLS} "
    "tests/process/workers/test_growth.py tests/process/broker/test_limits.py",
    "broker/data_plane/intake.py": f"tests/unit/data_plane/test_one_batch.py {_CALLS} "
    "tests/process/broker/test_stop.py "
    f"tests/process/calls/test_batching.py {_HOSTILE} tests/faults/hostile/test_flood.py "
    "tests/process/waiting/test_idle.py tests/process/workers/test_gone_workers.py",
    "broker/data_plane/runner.py": f"{_ANSWERS} {_CALLS} "
    "tests/unit/scheduling tests/process/calls/test_batching.py "
    "tests/process/calls/test_stateful.py",
    "broker/data_plane/served_signature.py": "tests/unit/scheduling tests/process/calls/test_batching.py "
    "tests/process/waiting/test_busy_process.py",
    "broker/data_plane/gather.py": f"tests/unit/scheduling {_CALLS} tests/process/calls/test_batching.py",
    "broker/data_plane/split.py": f"{_ANSWERS} tests/unit/scheduling "
    f"{_CALLS} tests/process/calls/test_batching.py "
    "tests/process/calls/test_batch_policy.py",
    "broker/sharing/memory.py": "tests/unit/sharing/test_memory.py tests/process/broker/test_limits.py",
    "worker_client/attachment/slot.py": f"{_ANSWERS} {_CALLS} tests/process/calls/test_answers.py "
    "tests/process/waiting/test_timeouts.py",
    "worker_client/attachment/region.py": f"{_ANSWERS} {_CALLS} tests/process/calls/test_answers.py",
    "worker_client/attachment/attachment.py": f"{_CALLS} tests/process/calls/test_stateful.py "
    "tests/faults/deaths/test_broker_death.py",
    "worker_client/attachment/supply.py": f"{_ANSWERS} {_CALLS} tests/process/workers/test_growth.py "
    "tests/process/waiting/test_deadlines.py",
    "worker_client/calls/channel.py": f"{_ANSWERS} {_CALLS} tests/process/workers/test_growth.py "
    "tests/process/waiting/test_deadlines.py tests/process/waiting/test_futures.py "
    "tests/process/waiting/test_aio.py tests/process/waiting/test_deadlines_suspended.py",
    "worker_client/wire/layout.py": f"{_WIRE} {_ANSWERS} tests/contract/test_two_processes.py {_CALLS}",
    "worker_client/ipc/ring.py": f"tests/contract/test_ring.py tests/contract/test_store_order.py {_CALLS}",
    "worker_client/wire/tensors.py": f"{_WIRE} {_CALLS} {_HOSTILE}",
    "worker_client/wire/strings.py": f"tests/unit/wire/test_strings.py {_CALLS} {_HOSTILE}",
    "worker_client/wire/signature.py": f"{_WIRE} tests/unit/client/test_inputs.py {_CALLS}",
    "worker_client/ipc/semaphore.py": "tests/contract/test_semaphore.py tests/process/calls/test_predict.py "
    "tests/process/broker/test_limits.py tests/process/waiting/test_deadlines.py",
    "worker_client/ipc/segment.py": "tests/unit/ipc/test_segment.py tests/faults/hostile/test_truncation.py "
    "tests/unit/sharing/test_memory.py tests/process/broker/test_limits.py",
    "worker_client/wire/control.py": "tests/faults/hostile/test_fuzz_control.py tests/unit/wire/test_control.py "
    "tests/process/calls/test_predict.py tests/faults/hostile/test_flood.py",
    "worker_client/interpreter/fork.py": "tests/process/workers/test_fork.py "
    "tests/process/workers/test_fork_unnoticed.py",
    # -- life and death
    "broker/server/watchdog.py": "tests/faults/endless/test_watchdog.py",
    "broker/observe/liveness.py": "tests/unit/process/test_liveness.py tests/faults/endless/test_watchdog.py",
    "broker/supervision/suspicion.py": "tests/unit/supervision/test_suspicion.py tests/faults/endless/test_watchdog.py",
    "broker/supervision/restart_policy.py": "tests/unit/supervision/test_restart_policy.py",
    "broker/supervision/supervisor.py": f"{_DEATHS} tests/faults/endless/test_watchdog.py",
    "broker/supervision/supervise.py": f"{_DEATHS} "
    "tests/process/surroundings/test_starters.py tests/process/surroundings/test_pid_one.py",
    "broker/server/lifeline.py": "tests/faults/deaths/test_lifeline.py",
    "broker/process/systemd.py": "tests/unit/process/test_systemd.py tests/process/broker/test_systemd.py",
    "broker/observe/health.py": "tests/unit/observe tests/process/observe/test_metrics.py",
    "worker_client/attachment/retry_policy.py": "tests/unit/client/test_retry_policy.py "
    "tests/faults/deaths/test_retries.py "
    "tests/faults/deaths/test_restart.py",
    # -- access, and nobody takes everything
    "broker/sharing/access.py": "tests/process/broker/test_access.py",
    "broker/control_plane/peers.py": "tests/faults/hostile/test_greed.py tests/unit/wire/test_control.py "
    "tests/process/broker/test_access.py",
    "broker/control_plane/server.py": "tests/unit/wire/test_control.py tests/faults/hostile/test_fuzz_control.py "
    "tests/faults/hostile/test_flood.py "
    "tests/faults/hostile/test_greed.py tests/process/broker/test_cleaners.py",
    "broker/control_plane/address_lock.py": "tests/process/broker/test_address.py "
    "tests/process/broker/test_access.py "
    "tests/process/broker/test_cleaners.py",
    "broker/control_plane/locks.py": "tests/unit/control_plane/test_locks.py "
    "tests/process/broker/test_address.py "
    "tests/process/broker/test_cleaners.py tests/process/broker/test_access.py",
    "broker/host/memory_left.py": "tests/unit/host/test_memory_left.py",
    "broker/host/cgroup.py": "tests/unit/host/test_cgroup.py tests/unit/host/test_memory_left.py",
    "broker/models/lifecycle/ad_hoc.py": "tests/unit/models/lifecycle/test_ad_hoc.py",
    "broker/models/effects/session_rules.py": "tests/tensorflow/sessions/test_session_rules.py",
}
