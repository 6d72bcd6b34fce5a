"""Carries out a plan: makes the task of each step when its turn comes, and runs it where its job runs."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dsflow.errors import DsflowError, Interrupted, UsageError, did_you_mean
from dsflow.freshness import Standing, needs_of, wanted_runtime
from dsflow.interruption import Interruption
from dsflow.model import Failure, Notice, Outcome, Status
from dsflow.pipeline import Pipeline
from dsflow.plan import Action, Plan, State, Step
from dsflow.prepare import assignment_of
from dsflow.quantities import memory_bytes
from dsflow.runner import Emitter, Listener, Runner, pause_before_retry
from dsflow.runtimes.contract import Folders
from dsflow.runtimes.registry import Runtimes
from dsflow.scheduler import Scheduler
from dsflow.specs.load import JobSpec, WorkspaceSpec
from dsflow.tasks import Maker
from dsflow.workspace import Workspace

# What tasks may use together of the machine's memory, where nobody says.
_SHARE_OF_MEMORY = 0.8


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What all tasks of a plan stand on.

    Attributes:
        workspace: Where the jobs are.
        settings: The workspace's settings.
        pipeline: The jobs.
        standing: What is published; it is told of what is new.
        maker: Makes the tasks.
        given: The parameters that each job is given, by name, as text.
        runtime: A runtime by name; the job's, then the workspace's, where None.
        runtimes: Where the tasks run.
    """

    workspace: Workspace
    settings: WorkspaceSpec
    pipeline: Pipeline
    standing: Standing
    maker: Maker
    given: Mapping[str, Mapping[str, str]]
    runtime: str | None = None
    runtimes: Runtimes = field(default_factory=Runtimes)

    @property
    def folders(self) -> Folders:
        """Where the jobs and the data are."""
        return Folders(jobs=self.workspace.jobs, datastore=self.workspace.datastore.resolve())

    def load(self, job: str) -> None:
        """Let a job's runtime load what its tasks will need, if it is warm, while a plan is being made."""
        spec = self.pipeline.nodes[job].job
        # What is wrong with the job is said when it is planned or run.
        with contextlib.suppress(DsflowError):
            wanted = wanted_runtime(spec, self.settings, self.runtime)
            runtime, _ = self.runtimes.choose(wanted)
            task, _ = self.maker.task(job, None, self.given.get(job, {}))
            runtime.load(task, needs_of(spec, self.settings, wanted), self.folders)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How much happens at once, and whether a failure ends it.

    Attributes:
        workers: How many tasks run at once.
        memory: Bytes that they may use together.
        fail_fast: Start nothing new after a failure.
        batch: One container for several tasks, instead of one for each.
    """

    workers: int
    memory: int
    fail_fast: bool = False
    batch: bool = False


def usual_memory() -> int:
    """Give the bytes that tasks may use together on this machine where nobody says."""
    import psutil

    return int(psutil.virtual_memory().total * _SHARE_OF_MEMORY)


def given_to(maker: Maker, jobs: Sequence[str], given: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Give each job those of the parameters that it has.

    Raises:
        UsageError: none of the jobs has one of them.
    """
    takes = {job: frozenset(maker.takes(job)) for job in jobs}
    known = sorted(frozenset().union(*takes.values()))
    for name in given:
        if name not in known:
            raise UsageError(
                f"-p {name[:60]}: no job of the plan has this parameter{did_you_mean(name, known)}",
                f"They have: {', '.join(known)}." if known else "They have none.",
            )
    return {job: {name: value for name, value in given.items() if name in takes[job]} for job in jobs}


def execute(
    plan: Plan,
    ground: Ground,
    pace: Pace,
    listeners: Sequence[Listener],
    ended: Callable[[Step, Outcome], None],
) -> list[tuple[Step, Outcome]]:
    """Carry out a plan to its end, or until the user interrupts.

    Args:
        plan: The plan.
        ground: What its tasks stand on.
        pace: How much happens at once.
        listeners: Called with every event of every run, one at a time.
        ended: Called with every step when it has ended for good.

    Returns:
        Every step with its outcome, in the order of the plan.

    Raises:
        EnvironmentMissing: a runtime cannot run tasks here; nothing was started.
    """
    launch = _Launch(plan, ground, Emitter(listeners), ended, pace.batch)
    scheduler = Scheduler(plan, launch, workers=pace.workers, memory=pace.memory, fail_fast=pace.fail_fast)
    interruption = Interruption()
    interruption.tell(lambda kill: scheduler.stop("interrupted", Interrupted.exit_code))
    interruption.tell(launch.stop)
    with interruption.listening(), contextlib.closing(launch):
        return scheduler.run()


class _Launch:
    """Runs the steps of a plan; what the scheduler drives."""

    def __init__(
        self, plan: Plan, ground: Ground, emit: Emitter, ended: Callable[[Step, Outcome], None], batch: bool
    ) -> None:
        self._ground = ground
        self._emit = emit
        self._ended = ended
        self._looking = threading.Lock()
        counts = Counter(step.job for step in plan.steps if step.action is Action.RUN)
        self._runners: dict[str, Runner] = {}
        for job, count in counts.items():
            self._open(self._spec(job), count, batch)

    def _open(self, job: JobSpec, tasks: int, batch: bool) -> None:
        """Choose where a job runs, before anything starts."""
        wanted = self._wanted(job)
        if wanted not in self._runners:
            runtime, reason = self._ground.runtimes.choose(wanted)
            self._runners[wanted] = Runner(runtime, reason, self._ground.folders, self._emit)
        self._runners[wanted].expect(tasks, batch=batch)

    def close(self) -> None:
        """Let the runtimes end what they keep ready."""
        for runner in self._runners.values():
            runner.close()

    def stop(self, kill: bool) -> None:
        """Ask everything that runs to save and end; with `kill`, end it at once."""
        for runner in self._runners.values():
            runner.stop(kill)

    def memory(self, step: Step) -> int:
        """Give what the job's spec says."""
        memory = self._spec(step.job).run.memory
        return memory_bytes(memory) if memory else 0

    def run(self, step: Step, attempt: int) -> Outcome:
        """Run a step once; one whose inputs came out the same as before is skipped."""
        try:
            if step.recheck and attempt == 1 and self._is_fresh(step):
                return _without_run(Status.SKIPPED)
            spec = self._spec(step.job)
            task, secrets = self._ground.maker.task(step.job, step.ds, self._ground.given[step.job])
            wanted = self._wanted(spec)
            assignment = assignment_of(task, secrets, spec, self._ground.settings, wanted)
            outcome = self._runners[wanted].run(assignment)
        except DsflowError as error:
            return _without_run(Status.FAILED, error)
        with self._looking:
            for published in outcome.outputs:
                manifest = published.manifest
                self._ground.standing.refresh(manifest.store, manifest.name, manifest.ds)
        return outcome

    def again(self, step: Step, outcome: Outcome, attempt: int) -> float | None:
        """Give the pause before the next attempt, and say that there will be one."""
        retries = self._spec(step.job).run.retries
        pause = pause_before_retry(outcome, attempt, retries)
        if pause is not None:
            why = f": {outcome.failure.message}" if outcome.failure else ""
            text = f"{step.job} ds={step.ds} failed{why}; retry {attempt} of {retries} in {pause:g} s"
            self._emit(Notice(text=" ".join(text.split())))
        return pause

    def ended(self, step: Step, outcome: Outcome) -> None:
        """Pass it on; a screen that is gone stops nothing."""
        with contextlib.suppress(OSError):
            self._ended(step, outcome)

    def _is_fresh(self, step: Step) -> bool:
        with self._looking:
            return self._ground.standing.verdict(step.job, step.ds).state is State.FRESH

    def _spec(self, job: str) -> JobSpec:
        return self._ground.pipeline.nodes[job].job

    def _wanted(self, job: JobSpec) -> str:
        return wanted_runtime(job, self._ground.settings, self._ground.runtime)


def _without_run(status: Status, error: DsflowError | None = None) -> Outcome:
    """Give the outcome of a step that did not come to run."""
    now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    return Outcome(
        run_id="",
        status=status,
        exit_code=error.exit_code if error else 0,
        started=now,
        finished=now,
        seconds=0.0,
        failure=Failure(kind=type(error).__name__, message=error.message, hint=error.hint) if error else None,
    )
