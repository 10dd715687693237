"""Promises, how each is taken out of the code, and the tests that must notice."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tests.mutants.trial import tried


class Promise(NamedTuple):
    without: str
    path: str
    old: str
    new: str
    tests: str

    def verdict(self, copy: Path, seconds: float) -> str:
        """What the tests say when it is not kept."""
        text = (copy / self.path).read_text()
        if text.count(self.old) != 1:
            return f"no verdict: {self.path} has its code {text.count(self.old)} times"
        return tried(copy, self.path, text.replace(self.old, self.new), self.tests, seconds)


PROMISES = [
    # -- life and death
    Promise(
        "the lifeline",
        "broker/server/lifeline.py",
        "        if fds:\n",
        "        if False:\n",
        "tests/faults/deaths/test_lifeline.py::test_closing_ends_it",
    ),
    Promise(
        "the limit on reruns of a request that kills the broker",
        "worker_client/attachment/retry_policy.py",
        "        return Attempts(self.retries, self.left - 1)\n",
        "        return self\n",
        "tests/unit/client/test_retry_policy.py::test_runs_after_a_brokers_death_are_limited "
        "tests/faults/deaths/test_restart.py::test_a_request_that_kills_the_broker_fails_after_one_more_run",
    ),
    Promise(
        "the sweep of a dead broker's names",
        "broker/control_plane/address_lock.py",
        "        sweep(self.prefix)\n        self.note(os.getpid(), loading=True)\n",
        "        self.note(os.getpid(), loading=True)\n",
        "tests/faults/deaths/test_broker_death.py::test_the_next_start_sweeps_what_a_kill_left",
    ),
    Promise(
        "time for running requests at a polite stop",
        "broker/server/server.py",
        "self.intake.join_runners(_left(deadline))",
        "self.intake.join_runners(0.0)",
        "tests/process/broker/test_stop.py::test_runs_that_are_under_way_at_a_stop_are_waited_for",
    ),
    Promise(
        "answers to waiting requests at a polite stop",
        "broker/data_plane/intake.py",
        "        self._route(self._scan())\n        while self._queue:\n            self._run_next()\n",
        "        pass\n",
        "tests/process/broker/test_stop.py::test_requests_in_the_rings_at_a_stop_are_answered",
    ),
    Promise(
        "silence towards systemd's watchdog when stuck",
        "broker/process/systemd.py",
        "        if not stuck:\n",
        "        if True:\n",
        "tests/process/broker/test_systemd.py::test_a_stopped_intake_is_not_alive",
    ),
    Promise(
        "a /livez that fails when stuck",
        "broker/observe/health.py",
        "if stuck else",
        "if False else",
        "tests/process/observe/test_metrics.py::test_a_stuck_thread_is_told",
    ),
    Promise(
        "growing pauses between restarts",
        "broker/supervision/restart_policy.py",
        "        pause = self._backoff.next_s()\n",
        "        pause = 0.0\n",
        "tests/unit/supervision/test_restart_policy.py",
    ),
    Promise(
        "the kill of a hung broker at a second signal to its supervisor",
        "broker/supervision/supervise.py",
        "            supervisor.kill()\n            return 128 + info.si_signo\n",
        "            return 128 + info.si_signo\n",
        "tests/process/broker/test_supervise.py::test_a_second_signal_ends_an_engine_that_hangs",
    ),
    Promise(
        "a supervisor that obeys a second signal",
        "broker/supervision/supervise.py",
        "        if info is not None and info.si_signo in heeded(STOP_SIGNALS):\n            supervisor.kill()\n",
        "        if False:\n            supervisor.kill()\n",
        "tests/process/broker/test_supervise.py::test_a_second_signal_ends_a_drain",
    ),
    # -- the data plane
    Promise(
        "the seals of segments",
        "worker_client/ipc/segment.py",
        "            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)\n",
        "",
        "tests/faults/hostile/test_truncation.py",
    ),
    Promise(
        "a check that the caller still waits before a request runs",
        "broker/data_plane/slot.py",
        "        if now_ns >= self.deadline_ns or self.channel.closed:\n            return True\n",
        "",
        "tests/contract/test_unwanted.py "
        "tests/process/waiting/test_deadlines.py::test_a_request_of_a_suspended_worker_is_not_run_after_its_deadline",
    ),
    Promise(
        "single runs of the requests of a failed batch",
        "broker/data_plane/runner.py",
        "self._run_direct(request, use, monotonic_ns())",
        'self._finish(request.fail(use, BrokerError("batch")))',
        "tests/process/calls/test_batching.py",
    ),
    Promise(
        "attention to how long runs take, by which a model becomes light or heavy",
        "broker/data_plane/served_signature.py",
        "    def ran(self, rows: int, run_ns: int",
        "    def ran(self, *_: object) -> None:\n        pass\n\n    def unused(self, rows: int, run_ns: int",
        "tests/unit/scheduling/test_serving.py",
    ),
    Promise(
        "the refusal of a busy slot",
        "broker/data_plane/channel.py",
        "(slot := self.slots[index]).use:",
        "((slot := self.slots[index]).use and False):",
        "tests/faults/hostile/test_hostile_worker.py::test_another_slot_twice_in_flight_closes_the_channel",
    ),
    Promise(
        "the deadline of control requests",
        "worker_client/attachment/link.py",
        "reply = answer.get(timeout=left)",
        "reply = answer.get(timeout=3000.0)",
        "tests/process/waiting/test_deadlines_suspended.py::test_calls_of_every_kind_end",
    ),
    Promise(
        "the deadline of attaching",
        "worker_client/attachment/connecting.py",
        "        sock.settimeout(timeout)\n",
        "        sock.settimeout(3000.0)\n",
        "tests/process/waiting/test_deadlines_suspended.py::test_calls_end_though_the_backlog_is_full",
    ),
    # -- access, and nobody takes everything
    Promise(
        "turns between connections, one message each",
        "broker/control_plane/server.py",
        "            if item is not None:\n                self._handle(session, *item)\n"
        "                self._flush(session)\n",
        "            while item is not None and session in self.sessions:\n"
        "                self._handle(session, *item)\n"
        "                self._flush(session)\n                item = session.decoder.next_message()\n"
        "            if item is not None:\n                pass\n",
        "tests/faults/hostile/test_flood.py",
    ),
    Promise(
        "the limit on unread messages",
        "broker/control_plane/server.py",
        "_MAX_OUTBOX = 256",
        "_MAX_OUTBOX = 10**9",
        "tests/faults/hostile/test_hostile_worker.py::test_a_peer_that_never_reads_is_cut_off "
        "tests/faults/hostile/test_flood.py",
    ),
    Promise(
        "the check of who attaches",
        "broker/sharing/access.py",
        "        return bool(self.gids) and not self.gids.isdisjoint(_groups_of(sock))\n",
        "        return True\n",
        "tests/process/broker/test_access.py::test_the_broker_checks_who_connects",
    ),
    Promise(
        "the check of who reloads models",
        "broker/control_plane/handlers.py",
        "        if session.uid not in (os.geteuid(), 0):\n",
        "        if False:\n",
        "tests/process/broker/test_access.py::test_only_the_brokers_user_reloads",
    ),
    Promise(
        "a doorbell that only allowed users can open",
        "broker/sharing/access.py",
        "        path = path_of(doorbell)\n        if",
        "        path = path_of(doorbell)\n        path.chmod(0o666)\n        if",
        "tests/process/broker/test_access.py::test_a_stranger_cannot_cut_off_the_doorbell",
    ),
    Promise(
        "the access list of a doorbell with several users",
        "broker/sharing/access.py",
        "            _list(path, self.uids, self.gids)\n",
        "            path.chmod(0o666)\n",
        "tests/process/broker/test_access.py::test_a_stranger_cannot_cut_off_the_doorbell",
    ),
    Promise(
        "the memory budget of a channel",
        "broker/sharing/memory.py",
        '            _check_budget("this worker\'s", used, nbytes, self.max_channel_bytes, "max_channel_bytes")\n',
        "",
        "tests/unit/sharing/test_memory.py::test_a_channel_past_its_budget",
    ),
    Promise(
        "the check for free memory before a segment is created",
        "broker/sharing/memory.py",
        "            _check_room(nbytes)\n",
        "",
        "tests/unit/sharing/test_memory.py::test_no_segment_takes_the_last_free_memory "
        "tests/process/broker/test_limits.py::test_a_segment_that_the_machine_has_no_memory_for_is_refused",
    ),
    Promise(
        "the reading of the memory limit",
        "broker/sharing/memory.py",
        "    left = left_bytes()\n",
        "    left = None\n",
        "tests/process/broker/test_limits.py::test_a_segment_that_the_machine_has_no_memory_for_is_refused",
    ),
    Promise(
        "the limit on callables that sessions ask for",
        "broker/models/lifecycle/ad_hoc.py",
        "MOST = 1000",
        "MOST = 10**9",
        "tests/unit/models/lifecycle/test_ad_hoc.py::test_the_limits_are_those_of_the_docs",
    ),
    Promise(
        "a worker's share of the callables that sessions ask for",
        "broker/models/lifecycle/ad_hoc.py",
        "SHARE = 250",
        "SHARE = 10**9",
        "tests/unit/models/lifecycle/test_ad_hoc.py::test_the_limits_are_those_of_the_docs",
    ),
    Promise(
        "eviction of callables that sessions asked for",
        "broker/models/lifecycle/repository.py",
        "            one_went = self._ad_hoc.make_room(versions, worker)\n",
        "            one_went = False\n",
        "tests/tensorflow/sessions/test_session_rules.py::test_callables_are_limited_and_make_room",
    ),
    Promise(
        "the check of who owns the socket's directory",
        "worker_client/ipc/directory.py",
        "    if ours and (found.st_uid != os.geteuid() or found.st_mode & 0o022):\n",
        "    if False:\n",
        "tests/process/broker/test_address.py::test_the_runtime_directory_is_made_for_us_alone",
    ),
    Promise(
        "a worker's check of who its broker is",
        "worker_client/attachment/connecting.py",
        "        if uid not in (os.geteuid(), 0):\n",
        "        if False:\n",
        "tests/process/broker/test_access.py::test_a_worker_does_not_trust_a_strangers_broker",
    ),
]
