"""Plans: order, reasons and what waits, for hand-made graphs and for any small one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsflow.model import Grain
from dsflow.partitions import between, shift
from dsflow.pipeline import Node, Pipeline
from dsflow.plan import Action, Plan, State, Step, Verdict, make
from dsflow.reads import Read, later, partitions_read
from dsflow.specs.load import JobSpec
from dsflow.store.layout import Store

RUN, SKIP, WAIT = Action.RUN, Action.SKIP, Action.WAIT
FIRST, LAST = "2026-11-01", "2026-11-04"
DATES = between(FIRST, LAST, "day")


@dataclass(frozen=True)
class Graph:
    """A pipeline without files: job `a` writes table `a`."""

    nodes: Mapping[str, Node]

    def producer(self, store: str, name: str) -> str | None:
        return next((job for job, node in self.nodes.items() if node.writes == (store, name)), None)


@dataclass
class Stand:
    """What is published, by hand. What is said of no partition is that it is missing."""

    states: Mapping[tuple[str, str], State] = field(default_factory=dict)
    raw: Mapping[str, Sequence[str]] = field(default_factory=dict)
    made_from: Mapping[tuple[str, str], Sequence[tuple[str, str, str | None]]] = field(default_factory=dict)

    def verdict(self, job: str, ds: str) -> Verdict:
        state = self.states.get((job, ds), State.MISSING)
        return Verdict(state, f"it is {state}")

    def seconds(self, job: str) -> float | None:
        return 2.0

    def there(self, store: Store, name: str) -> Sequence[str]:
        if store == "raw":
            return self.raw.get(name, ())
        there = (State.FRESH, State.STALE)
        return sorted(ds for (job, ds), state in self.states.items() if job == name and state in there)

    def seen(self, job: str, ds: str) -> Iterable[tuple[str, str, str | None]]:
        return self.made_from.get((job, ds), ())


def node(name: str, *reads: Read, grain: Grain = "day", kind: str = "sql") -> Node:
    job = JobSpec.model_construct(name=name, kind=kind, grain=grain)
    return Node(job=job, main="q.sql", reads=reads, writes=("table", name))


def table(name: str, **how: Any) -> Read:
    return Read(name=name, store="table", dataset=name, **how)


def raw(name: str, **how: Any) -> Read:
    return Read(name=name, store="raw", dataset=name, **how)


def graph(*nodes: Node) -> Pipeline:
    return cast(Pipeline, Graph({node.job.name: node for node in nodes}))


def plan_of(pipeline: Pipeline, stand: Stand, jobs: Sequence[str] = (), **how: Any) -> Plan:
    return make(pipeline, jobs or list(pipeline.nodes), how.pop("first", FIRST), how.pop("last", LAST), stand, **how)


def told(plan: Plan) -> dict[tuple[str, str], tuple[Action, str]]:
    return {(step.job, step.ds): (step.action, step.reason) for step in plan.steps}


def everything(job: str, state: State) -> dict[tuple[str, str], State]:
    return {(job, ds): state for ds in DATES}


def test_what_is_fresh_is_skipped_and_the_rest_runs() -> None:
    states = {("a", DATES[0]): State.FRESH, ("a", DATES[1]): State.STALE, ("a", DATES[2]): State.FAILED}
    assert told(plan_of(graph(node("a")), Stand(states))) == {
        ("a", DATES[0]): (SKIP, "it is fresh"),
        ("a", DATES[1]): (RUN, "it is stale"),
        ("a", DATES[2]): (RUN, "it is failed"),
        ("a", DATES[3]): (RUN, "it is missing"),
    }


def test_day_2_of_the_second_job_does_not_need_day_1_of_the_first() -> None:
    plan = plan_of(graph(node("a"), node("b", table("a"))), Stand())
    assert [(step.job, step.ds) for step in plan.steps] == [(job, ds) for ds in DATES for job in "ab"]
    assert [step.needs for step in plan.steps] == [(), (0,), (), (2,), (), (4,), (), (6,)]


def test_latest_first_begins_with_the_newest_date() -> None:
    plan = plan_of(graph(node("a"), node("b", table("a"))), Stand(), latest_first=True)
    assert [(step.job, step.ds) for step in plan.steps] == [(job, ds) for ds in reversed(DATES) for job in "ab"]
    assert plan.steps[1].needs == (0,)


def test_what_a_rebuilt_partition_went_into_is_checked_again_later() -> None:
    states = {**everything("a", State.FRESH), **everything("b", State.FRESH), ("a", DATES[1]): State.STALE}
    plan = plan_of(graph(node("a"), node("b", table("a"))), Stand(states))
    runs = [step for step in plan.steps if step.action is RUN]
    assert [(step.job, step.ds, step.recheck) for step in runs] == [("a", DATES[1], False), ("b", DATES[1], True)]
    assert runs[1].reason == f"input tables/a ds={DATES[1]} will be rebuilt"
    assert runs[1].state is State.FRESH


def test_what_a_job_read_on_its_own_account_counts_too() -> None:
    states = {("a", DATES[0]): State.STALE, **everything("b", State.FRESH)}
    stand = Stand(states, made_from={("b", DATES[3]): [("table", "a", DATES[0])]})
    # b names a in no spec, but comes after it in the pipeline.
    plan = plan_of(graph(node("a"), node("b")), stand)
    assert {(step.job, step.ds) for step in plan.steps if step.recheck} == {("b", DATES[3])}


def test_a_source_that_nobody_writes_is_waited_for() -> None:
    stand = Stand(raw={"orders": DATES[:3]})
    plan = told(plan_of(graph(node("a", raw("orders")), node("b", table("a"))), stand))
    assert plan["a", DATES[3]] == (WAIT, f"raw/orders ds={DATES[3]} is not there and no job writes it")
    assert plan["b", DATES[3]] == (WAIT, "job a waits")
    assert plan["b", DATES[2]][0] is RUN


def test_a_missing_table_of_a_job_that_is_not_selected_is_waited_for() -> None:
    plan = told(plan_of(graph(node("a"), node("b", table("a"))), Stand(), ["b"]))
    assert plan["b", FIRST] == (WAIT, f"tables/a ds={FIRST} is missing; select +b to make it")


def test_a_window_runs_with_what_is_there_and_after_what_is_coming() -> None:
    stand = Stand(raw={"orders": [DATES[1], DATES[3]]})
    plan = plan_of(graph(node("a", raw("orders")), node("b", table("a", window=2))), stand)
    steps = {(step.job, step.ds): step for step in plan.steps}
    assert steps["b", DATES[0]].action is WAIT
    assert [plan.steps[need].ds for need in steps["b", DATES[2]].needs] == [DATES[1]]
    assert steps["b", DATES[2]].action is RUN


def test_late_data_comes_before_the_date_it_belongs_to() -> None:
    plan = plan_of(graph(node("a"), node("b", table("a", lookback=2))), Stand())
    steps = {(step.job, step.ds): step for step in plan.steps}
    assert [plan.steps[need].ds for need in steps["b", DATES[0]].needs] == list(DATES[:3])
    assert [plan.steps[need].ds for need in steps["b", DATES[3]].needs] == [DATES[3]]


def test_a_dimension_is_needed_in_its_newest_version_at_or_before_ds() -> None:
    states = {**everything("d", State.FRESH), ("d", DATES[1]): State.STALE}
    del states["d", DATES[2]], states["d", DATES[3]]
    plan = plan_of(graph(node("d"), node("f", table("d", as_of=True))), Stand(states), first=FIRST, last=DATES[1])
    steps = {(step.job, step.ds): step for step in plan.steps}
    assert steps["f", DATES[0]].needs == ()
    assert [plan.steps[need].ds for need in steps["f", DATES[1]].needs] == [DATES[1]]


def test_without_any_version_of_a_dimension_nothing_can_run() -> None:
    plan = told(plan_of(graph(node("f", raw("d", as_of=True))), Stand(raw={"d": [DATES[2]]})))
    assert plan["f", DATES[1]] == (WAIT, f"raw/d up to ds={DATES[1]} is not there and no job writes it")
    assert plan["f", DATES[2]][0] is RUN


def test_a_job_that_reads_its_own_past_goes_in_order_and_can_begin() -> None:
    plan = plan_of(graph(node("a", table("a", window=2, own=True))), Stand(), latest_first=True)
    assert [step.ds for step in plan.steps] == list(DATES)
    assert [step.needs for step in plan.steps] == [(), (0,), (1,), (2,)]


def test_a_thousand_dates_of_such_a_job_are_no_problem() -> None:
    pipeline = graph(node("a", table("a", window=2, own=True)))
    plan = plan_of(pipeline, Stand(), first="2020-01-01", last="2023-12-31", latest_first=True)
    assert all(step.needs == (position - 1,) for position, step in enumerate(plan.steps) if position)


def test_a_week_needs_its_days_and_a_day_the_hours() -> None:
    hours = [f"2026-11-02T{hour:02d}" for hour in range(24)]
    week = node("w", table("a"), grain="week")
    pipeline = graph(node("a", raw("h", grain="hour")), week)
    plan = plan_of(pipeline, Stand(raw={"h": hours}), first="2026-W45", last="2026-W45")
    steps = {(step.job, step.ds): step for step in plan.steps}
    assert {ds for (job, ds), step in steps.items() if job == "a" and step.action is RUN} == {"2026-11-02"}
    assert [plan.steps[need].ds for need in steps["w", "2026-W45"].needs] == ["2026-11-02"]
    assert plan.steps[-1].job == "w"


def test_what_is_running_is_waited_for_and_so_is_what_needs_it() -> None:
    states = {("a", FIRST): State.RUNNING, ("b", FIRST): State.STALE}
    plan = told(plan_of(graph(node("a"), node("b", table("a"))), Stand(states), last=FIRST))
    assert plan == {("a", FIRST): (WAIT, "it is running"), ("b", FIRST): (WAIT, f"job a is running for ds={FIRST}")}


def test_force_runs_what_is_fresh() -> None:
    plan = plan_of(graph(node("a")), Stand(everything("a", State.FRESH)), force=True)
    assert {(step.action, step.reason, step.recheck) for step in plan.steps} == {(RUN, "forced", False)}


def test_only_what_was_asked_for_runs_and_what_that_makes_stale() -> None:
    states = {("a", DATES[0]): State.STALE, ("a", DATES[1]): State.FAILED, **everything("b", State.FRESH)}
    plan = plan_of(graph(node("a"), node("b", table("a"))), Stand(states), last=DATES[1], only={State.STALE})
    assert told(plan) == {
        ("a", DATES[0]): (RUN, "it is stale"),
        ("b", DATES[0]): (RUN, f"input tables/a ds={DATES[0]} will be rebuilt"),
        ("a", DATES[1]): (SKIP, "not asked for: failed"),
        ("b", DATES[1]): (SKIP, "it is fresh"),
    }


def test_what_is_not_asked_for_is_missing_for_what_needs_it() -> None:
    states = {("b", FIRST): State.STALE}
    plan = told(plan_of(graph(node("a"), node("b", table("a"))), Stand(states), last=FIRST, only={State.STALE}))
    assert plan["b", FIRST] == (WAIT, f"tables/a ds={FIRST} is missing, and this plan does not run a for it")


def test_dashboards_are_in_no_plan_and_only_runs_have_an_estimate() -> None:
    states = everything("a", State.FRESH) | {("a", FIRST): State.STALE}
    plan = plan_of(graph(node("a"), node("b", kind="dashboard")), Stand(states))
    assert {step.job for step in plan.steps} == {"a"}
    assert [step.seconds for step in plan.steps] == [2.0, None, None, None]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Pipeline, Stand]:
    """Any small graph of up to five jobs, and any set of partitions in any state."""
    names = list("abcde")[: draw(st.integers(1, 5))]
    nodes = []
    for number, name in enumerate(names):
        reads = []
        for parent in draw(st.sets(st.sampled_from([*names[:number], "orders"]), max_size=3)):
            how: dict[str, Any] = draw(
                st.sampled_from(({}, {"window": 2}, {"lookback": 1}, {"as_of": True}, {"in_code": True}))
            )
            reads.append(raw(parent, **how) if parent == "orders" else table(parent, **how))
        if draw(st.booleans()):
            reads.append(table(name, window=2, own=True))
        nodes.append(node(name, *reads))
    dates = [shift(FIRST, -1), *DATES]
    states = {(name, ds): draw(st.sampled_from(State)) for name in names for ds in dates if draw(st.booleans())}
    return graph(*nodes), Stand(states, raw={"orders": draw(st.lists(st.sampled_from(dates), unique=True).map(sorted))})


def exact_needs(pipeline: Pipeline, step: Step) -> list[tuple[str, str]]:
    """The partitions without which a step cannot run: those of inputs of which it reads only one."""
    reads = [read for read in pipeline.nodes[step.job].reads if not (read.as_of or read.in_code or read.own)]
    single = [(read, partitions_read(read, step.ds, "day")) for read in reads]
    return [(read.dataset, wanted[0]) for read, wanted in single if len(wanted) == 1 and read.store == "table"]


@settings(max_examples=300, deadline=None)
@given(worlds(), st.booleans(), st.booleans())
def test_any_plan_keeps_its_promises(world: tuple[Pipeline, Stand], force: bool, latest_first: bool) -> None:
    pipeline, stand = world
    plan = plan_of(pipeline, stand, force=force, latest_first=latest_first)
    steps = {(step.job, step.ds): step for step in plan.steps}
    places = {(step.job, step.ds): position for position, step in enumerate(plan.steps)}
    # Everything is there once.
    assert len(plan.steps) == len(steps) == len(pipeline.nodes) * len(DATES)
    for position, step in enumerate(plan.steps):
        # The order respects every dependency, and only what runs is needed or needs.
        assert all(need < position and plan.steps[need].action is RUN for need in step.needs)
        assert step.action is RUN or not step.needs
        # Nothing fresh runs unless it is forced, or something it was made from is rebuilt.
        if step.state is State.FRESH and step.action is RUN:
            assert force or (step.recheck and step.needs)
        if step.state is State.RUNNING:
            assert step.action is WAIT
        for name, ds in exact_needs(pipeline, step):
            above = steps.get((name, ds))
            # Waiting is passed on.
            if above and above.action is WAIT and (step.state is not State.FRESH or force):
                assert step.action is WAIT
            # Whatever runs above a step that runs comes first.
            if above and above.action is RUN and step.action is RUN:
                assert places[name, ds] in step.needs


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_late_and_windowed_inputs_that_run_come_first(world: tuple[Pipeline, Stand]) -> None:
    pipeline, stand = world
    plan = plan_of(pipeline, stand)
    places = {(step.job, step.ds): position for position, step in enumerate(plan.steps)}
    for step in plan.steps:
        if step.action is RUN:
            for read in pipeline.nodes[step.job].reads:
                wanted = (*partitions_read(read, step.ds, "day"), *later(read, step.ds, "day"))
                above = [places[read.dataset, ds] for ds in wanted if (read.dataset, ds) in places]
                assert {place for place in above if plan.steps[place].action is RUN} <= set(step.needs)


@pytest.mark.parametrize("state", [State.MISSING, State.STALE, State.FAILED])
def test_whatever_is_not_fresh_runs(state: State) -> None:
    plan = plan_of(graph(node("a")), Stand(everything("a", state)))
    assert {step.action for step in plan.steps} == {RUN}
