"""The pipeline on the screen: a list, a tree, a flowchart and a page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from dsflow.graph import Arrow, Box, Graph, graph_of, mermaid, tree
from dsflow.pipeline import load
from dsflow.specs.load import load_workspace
from tests.conftest import MakeWorkspace, Screen

Dsflow = Callable[..., Screen]

TREE = {
    "jobs/clicks/job_specs.yaml": "version: 1\nkind: script\ngrain: hour\noutput: {raw: clicks}\ntags: [nightly]\n",
    "jobs/clicks/a.sh": "",
    "jobs/daily/job_specs.yaml": "version: 1\nkind: sql\noutput: {table: fct_daily}\ntags: [nightly, web]\n",
    "jobs/daily/q.sql": "SELECT * FROM raw.clicks JOIN dim_users USING (u)",
    "jobs/users/job_specs.yaml": """
        version: 1
        kind: sql
        inputs: {past: {table: dim_users}, signups: {raw: signups, lookback: 3}}
        output: {table: dim_users, kind: dim}
    """,
    "jobs/users/q.sql": "SELECT * FROM past UNION SELECT * FROM signups",
    "jobs/weekly/job_specs.yaml": "version: 1\nkind: sql\ngrain: week\noutput: {table: fct_weekly}\n",
    "jobs/weekly/q.sql": "SELECT * FROM fct_daily",
    "jobs/trend/job_specs.yaml": """
        version: 1
        kind: sql
        description: Four weeks back
        inputs: {days: {table: fct_daily, window: 28}}
        output: {table: fct_trend}
        schedule: 30 4 * * *
    """,
    "jobs/trend/q.sql": "SELECT * FROM days",
    "jobs/page/job_specs.yaml": "version: 1\nkind: dashboard\n",
    "jobs/page/p.py": "from dsflow import job\njob.sql('SELECT * FROM fct_trend')",
}
SCREEN = """\
clicks  -> raw/clicks
└─ daily  -> fct_daily  [by hour]
   ├─ trend  -> fct_trend  [last 28 days]
   │  └─ page
   └─ weekly  -> fct_weekly  [by day]
raw/signups  (no job here writes it)
└─ users  -> dim_users  [3 days ahead; its own past]
   └─ daily  -> fct_daily  [newest]  (see above)
"""
FLOWCHART = """\
flowchart LR
    n0[/"raw/clicks"/]
    n1[("dim_users")]
    n2["daily"]
    n3[("fct_daily")]
    n4["weekly"]
    n5[("fct_weekly")]
    n0 -->|"by hour"| n2
    n1 -->|"newest"| n2
    n2 --> n3
    n3 -->|"by day"| n4
    n4 --> n5
"""
LIST = """\
job     kind       grain  reads                  writes      tags
────────────────────────────────────────────────────────────────────────
clicks  script     hour                          raw/clicks  nightly
users   sql        day    dim_users raw/signups  dim_users
daily   sql        day    raw/clicks dim_users   fct_daily   nightly web
trend   sql        day    fct_daily              fct_trend
page    dashboard  day    fct_trend
weekly  sql        week   fct_daily              fct_weekly
"""


def stripped(text: str) -> str:
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


class TestScreens:
    def test_the_list_of_jobs(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        make_workspace(TREE)
        assert stripped(dsflow("ls").out) == LIST
        assert dsflow("ls", "jobs").out == dsflow("ls").out

    def test_a_selection_of_jobs(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        make_workspace(TREE)
        names = [line.split()[0] for line in dsflow("ls", "tag:web", "trend+", "--exclude", "page").out.splitlines()]
        assert names[2:] == ["daily", "trend"]
        empty = dsflow("ls", "trend,weekly")
        assert (empty.exit_code, empty.out, empty.err) == (0, "", "No job.\n")
        assert dsflow("ls", "trned").err.startswith("error: there is no job 'trned'; did you mean 'trend'?\n")

    def test_the_list_as_a_document(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        make_workspace(TREE)
        (entry,) = dsflow("ls", "trend", "--json").document["jobs"]
        assert (entry["job"], entry["description"], entry["folder"]) == ("trend", "Four weeks back", "jobs/trend")
        assert (entry["parents"], entry["children"]) == (["daily"], ["page"])
        schedule = {"cron": "30 4 * * *", "timezone": "UTC", "partition": "ended", "paused_until": None}
        assert entry["schedule"] == schedule
        assert entry["writes"] == {"store": "table", "name": "fct_trend", "kind": "fct"}
        assert entry["reads"][0]["window"] == 28

    def test_a_job_with_mistakes_does_not_hide_the_others(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        make_workspace({**TREE, "jobs/bad/job_specs.yaml": "version: 1\nkind: sqll\n"})
        screen = dsflow("ls")
        assert stripped(screen.out) == LIST
        assert screen.err.startswith("left out: jobs/bad/job_specs.yaml: kind: 'sqll' is not one of")
        assert stripped(dsflow("graph").out) == SCREEN
        refused = dsflow("graph", "+trend")
        assert (refused.exit_code, refused.out) == (2, "")
        assert "jobs/bad/job_specs.yaml" in refused.err

    def test_no_job_yet(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        make_workspace({})
        assert dsflow("ls").err == "No job yet. `dsflow generate-job` makes one.\n"
        assert dsflow("graph").err == "No job yet. `dsflow generate-job` makes one.\n"

    def test_the_tree(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        make_workspace(TREE)
        assert dsflow("graph").out == SCREEN

    def test_the_flowchart_of_a_selection(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        make_workspace(TREE)
        assert dsflow("graph", "daily", "weekly", "--mermaid").out == FLOWCHART

    def test_the_graph_as_a_document(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        make_workspace(TREE)
        document = dsflow("graph", "weekly", "--json").document
        assert [box["key"] for box in document["boxes"]] == ["table:fct_daily", "job:weekly", "table:fct_weekly"]
        assert document["arrows"][0] == {"source": "table:fct_daily", "target": "job:weekly", "note": "by day"}

    def test_the_page(self, make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
        workspace = make_workspace(TREE)
        screen = dsflow("graph", "--html", "p.html")
        assert screen.out == "Drew 6 jobs in p.html\n"
        text = (workspace.root / "p.html").read_text()
        assert not re.search(r"https?:|<script|url\((?!#)|@import|src=", text.replace("http://www.w3.org", ""))
        svg = ET.fromstring(re.search(r"<svg.*</svg>", text, re.DOTALL)[0])  # type: ignore[index]
        labels = {element.text for element in svg.iter("text")}
        assert {"daily", "raw/clicks", "dim_users", "last 28 days"} <= labels
        assert len([path for path in svg.iter("path") if path.get("marker-end")]) == 11

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (("--html", "no/p.html"), "--html no/p.html: there is no folder no"),
            (("--html", "p.html", "--mermaid"), "--mermaid and --html: choose one"),
            (("--html", "jobs"), "invalid value for '--html': File 'jobs' is a directory"),
        ],
    )
    def test_what_cannot_be_drawn(
        self, make_workspace: MakeWorkspace, dsflow: Dsflow, arguments: tuple[str, ...], sentence: str
    ) -> None:
        make_workspace(TREE)
        screen = dsflow("graph", *arguments)
        assert (screen.exit_code, screen.err.splitlines()[0]) == (2, f"error: {sentence}")


class TestBoxesAndArrows:
    def test_no_line_is_wider_than_the_terminal(self) -> None:
        assert [len(line) for line in tree(chain(30, "x" * 70), 80)] == [80] * 33
        assert max(len(line) for line in tree(chain(30, "x" * 20), 80)) <= 80

    def test_a_long_chain_goes_on_at_the_margin(self) -> None:
        lines = tree(chain(20, ""))
        assert lines[8:10] == ["   " * 7 + "└─ j08  -> t08  (see below)", "j08  -> t08"]
        drawn = [re.sub(r"\W*(j\d+)  -> t\d+.*", r"\1", line) for line in lines]
        assert list(dict.fromkeys(drawn)) == [f"j{number:02}" for number in range(20)]

    def test_nothing_is_nothing(self) -> None:
        assert tree(Graph((), ())) == []
        assert mermaid(Graph((), ())) == ["flowchart LR"]

    def test_hostile_names_stay_text(self, tmp_path: Path) -> None:
        from dsflow.drawing import page

        name = '"]; click n0 "javascript:x" <script>alert(1)</script> %%{init}%% \N{SNOWMAN}'
        graph = Graph((Box(key="raw:x", kind="raw", name=name), Box(key="job:j", kind="job", name="j")), ())
        assert not re.search(r'[<>%"]|\N{SNOWMAN}', mermaid(graph)[1].split('"', 1)[1].rsplit('"', 1)[0])
        drawn = page(graph, "<b>x</b>")
        assert "<script" not in drawn
        assert "<b>" not in drawn
        svg = ET.fromstring(re.search(r"<svg.*</svg>", drawn, re.DOTALL)[0])  # type: ignore[index]
        assert f"raw/{name}" in {element.text for element in svg.iter("text")}

    def test_boxes_of_the_page_do_not_overlap(self, make_workspace: MakeWorkspace) -> None:
        from dsflow.drawing import page

        workspace = make_workspace(TREE)
        pipeline = load(workspace, load_workspace(workspace))
        drawn = page(graph_of(pipeline, pipeline.nodes), "x")
        svg = ET.fromstring(re.search(r"<svg.*</svg>", drawn, re.DOTALL)[0])  # type: ignore[index]
        boxes = [
            tuple(float(rect.get(side, "nan")) for side in ("x", "y", "width", "height")) for rect in svg.iter("rect")
        ]
        assert len(boxes) == 12
        for number, (x, y, width, height) in enumerate(boxes):
            for x2, y2, width2, height2 in boxes[:number]:
                assert x + width <= x2 or x2 + width2 <= x or y + height <= y2 or y2 + height2 <= y


def chain(length: int, suffix: str) -> Graph:
    """Give a graph in which each job reads what the one before it writes."""
    boxes, arrows = [], []
    for number in range(length):
        job, table = f"job:{number}", f"table:{number}"
        boxes += [
            Box(key=job, kind="job", name=f"j{number:02}{suffix}"),
            Box(key=table, kind="table", name=f"t{number:02}"),
        ]
        arrows += [Arrow(source=job, target=table)]
        arrows += [Arrow(source=f"table:{number - 1}", target=job)] if number else []
    return Graph(tuple(boxes), tuple(arrows))
