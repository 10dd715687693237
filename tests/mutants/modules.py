"""The modules that `make mutants` breaks at random, each with the tests that must notice: the quick ones near it.

A survivor is tried again with more tests before it is called a gap.
"""

from __future__ import annotations

_ANSWERS = "tests/contract/test_answers.py tests/contract/test_posts.py tests/contract/test_states.py"
_CALLS = "tests/process/test_predict.py tests/process/test_errors.py tests/process/test_strings.py"
_HOSTILE = "tests/faults/test_fuzz_headers.py tests/faults/test_hostile_worker.py"
_DEATHS = "tests/process/test_supervise.py tests/faults/test_restart.py"
_WIRE = "tests/unit/test_layout.py tests/unit/test_tensors.py tests/unit/test_signature.py"

MODULES: dict[str, str] = {
    # -- the data plane
    "broker/data_plane/slot.py": f"{_ANSWERS} tests/contract/test_unwanted.py {_CALLS} "
    f"tests/process/test_answers.py {_HOSTILE}",
    "broker/data_plane/region.py": f"tests/unit/test_region.py {_ANSWERS} {_CALLS} "
    f"tests/process/test_answers.py {_HOSTILE}",
    "broker/data_plane/prepared.py": f"{_ANSWERS} {_CALLS} {_HOSTILE}",
    "broker/data_plane/channel.py": f"{_HOSTILE} {_CALLS} tests/process/test_growth.py tests/process/test_limits.py",
    "broker/data_plane/intake.py": f"tests/unit/test_one_batch.py {_CALLS} tests/process/test_stop.py "
    f"tests/process/test_batching.py {_HOSTILE} tests/faults/test_flood.py tests/process/test_idle.py "
    "tests/process/test_gone_workers.py",
    "broker/data_plane/runner.py": f"{_ANSWERS} {_CALLS} tests/unit/scheduling tests/process/test_batching.py "
    "tests/process/test_stateful.py",
    "broker/data_plane/served_signature.py": "tests/unit/scheduling tests/process/test_batching.py "
    "tests/process/test_company.py",
    "broker/data_plane/gather.py": f"tests/unit/scheduling {_CALLS} tests/process/test_batching.py",
    "broker/data_plane/split.py": f"{_ANSWERS} tests/unit/scheduling {_CALLS} tests/process/test_batching.py "
    "tests/process/test_batch_policy.py",
    "broker/sharing/memory.py": "tests/unit/test_memory.py tests/process/test_limits.py",
    "worker_client/attachment/slot.py": f"{_ANSWERS} {_CALLS} tests/process/test_answers.py "
    "tests/process/test_timeouts.py",
    "worker_client/attachment/region.py": f"{_ANSWERS} {_CALLS} tests/process/test_answers.py",
    "worker_client/attachment/attachment.py": f"{_CALLS} tests/process/test_stateful.py "
    "tests/faults/test_broker_death.py",
    "worker_client/attachment/supply.py": f"{_ANSWERS} {_CALLS} tests/process/test_growth.py "
    "tests/process/test_deadlines.py",
    "worker_client/calls/channel.py": f"{_ANSWERS} {_CALLS} tests/process/test_growth.py "
    "tests/process/test_deadlines.py "
    "tests/process/test_futures.py tests/process/test_aio.py tests/process/test_deadlines_suspended.py",
    "worker_client/wire/layout.py": f"{_WIRE} {_ANSWERS} tests/contract/test_two_processes.py {_CALLS}",
    "worker_client/ipc/ring.py": f"tests/contract/test_ring.py tests/contract/test_store_order.py {_CALLS}",
    "worker_client/wire/tensors.py": f"{_WIRE} {_CALLS} {_HOSTILE}",
    "worker_client/wire/strings.py": f"tests/unit/test_strings.py {_CALLS} {_HOSTILE}",
    "worker_client/wire/signature.py": f"{_WIRE} tests/unit/test_fitting.py {_CALLS}",
    "worker_client/ipc/semaphore.py": "tests/contract/test_semaphore.py tests/process/test_predict.py "
    "tests/process/test_limits.py tests/process/test_deadlines.py",
    "worker_client/ipc/segment.py": "tests/unit/test_segment.py tests/faults/test_truncation.py "
    "tests/unit/test_memory.py tests/process/test_limits.py",
    "worker_client/wire/control.py": "tests/faults/test_fuzz_control.py tests/unit/test_control.py "
    "tests/process/test_predict.py tests/faults/test_flood.py",
    "worker_client/system/fork.py": "tests/process/test_fork.py tests/process/test_fork_unnoticed.py",
    # -- life and death
    "broker/server/watchdog.py": "tests/faults/test_watchdog.py",
    "broker/observe/liveness.py": "tests/unit/test_liveness.py tests/faults/test_watchdog.py",
    "broker/supervision/suspicion.py": "tests/unit/test_suspicion.py tests/faults/test_watchdog.py",
    "broker/supervision/restart_policy.py": "tests/unit/test_restarts.py",
    "broker/supervision/supervisor.py": f"{_DEATHS} tests/faults/test_watchdog.py",
    "broker/supervision/supervise.py": f"{_DEATHS} tests/process/test_starters.py tests/process/test_init.py",
    "broker/server/lifeline.py": "tests/faults/test_lifeline.py",
    "broker/process/systemd.py": "tests/unit/test_systemd.py tests/process/test_systemd.py",
    "broker/observe/health.py": "tests/unit/observe tests/process/test_metrics.py",
    "worker_client/attachment/retry_policy.py": "tests/unit/test_absence.py tests/faults/test_retries.py "
    "tests/faults/test_restart.py",
    # -- access, and nobody takes everything
    "broker/sharing/access.py": "tests/process/test_access.py",
    "broker/control_plane/peers.py": "tests/faults/test_greed.py tests/unit/test_control.py "
    "tests/process/test_access.py",
    "broker/control_plane/server.py": "tests/unit/test_control.py tests/faults/test_fuzz_control.py "
    "tests/faults/test_flood.py "
    "tests/faults/test_greed.py tests/process/test_cleaners.py",
    "broker/control_plane/address_lock.py": "tests/process/test_address.py tests/process/test_access.py "
    "tests/process/test_cleaners.py",
    "broker/control_plane/locks.py": "tests/unit/test_locks.py tests/process/test_address.py "
    "tests/process/test_cleaners.py tests/process/test_access.py",
    "broker/host/memory.py": "tests/unit/host/test_memory.py",
    "broker/host/cgroup.py": "tests/unit/host/test_cgroup.py tests/unit/host/test_memory.py",
    "broker/models/lifecycle/ad_hoc.py": "tests/unit/models/test_ad_hoc.py",
    "broker/models/effects/session_rules.py": "tests/tensorflow/test_session_rules.py",
}
