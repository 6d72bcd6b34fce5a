"""`dsflow generate-adhoc`, `infer-schema`, `transform-notebook` and `tree`."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
import yaml

from dsflow.store.datastore import Datastore
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen, notebook

Dsflow = Callable[..., Screen]
RAIN = "city;rain\nParis;0.5\nOrly;1\n"
TODAY = dt.date.today().isoformat()  # noqa: DTZ011 - what a person calls today


def _run_cells(path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Run the code of a notebook in its folder, as Jupyter would, and give its variables."""
    monkeypatch.chdir(path.parent)
    variables: dict[str, object] = {}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, variables)
    return variables


def test_7_1_30_infer_schema_finds_the_delimiter_and_shows_a_tree(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    workspace = make_workspace({"datastore/raw/rain/ds=2026-11-20/rain.csv": RAIN})
    screen = dsflow("infer-schema", "/data/raw/rain", "csv")
    assert screen.exit_code == 0
    assert screen.out.splitlines() == [
        "Format: csv",
        "Delimiter: ';'",
        "Columns: 2",
        "├── city: VARCHAR",
        "└── rain: DOUBLE",
    ]
    assert dsflow("infer-schema", "datastore/raw/rain/ds=2026-11-20/rain.csv").out == screen.out
    assert sorted(path.name for path in workspace.root.iterdir()) == ["datastore", "dsflow.yml", "jobs"]


def test_7_1_30_infer_schema_writes_the_schema_where_told(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({"rain.csv": RAIN})
    screen = dsflow("infer-schema", "rain.csv", "-o", "schema.yaml", "--json")
    expected = {"format": "csv", "delimiter": ";", "header": True, "columns": {"city": "VARCHAR", "rain": "DOUBLE"}}
    assert yaml.safe_load((workspace.root / "schema.yaml").read_text()) == screen.document == expected


def test_infer_schema_shows_the_parts_of_a_nested_column(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({"x.json": '{"id": 1, "at": [{"lat": 1.5, "lon": 2.5}]}\n'})
    assert dsflow("infer-schema", "x.json").out.splitlines()[2:] == [
        "├── id: BIGINT",
        "└── at: STRUCT[]",
        "    ├── lat: DOUBLE",
        "    └── lon: DOUBLE",
    ]


def test_infer_schema_of_nothing_is_a_sentence(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({})
    for path in ("/data/raw/nope", "/data"):
        screen = dsflow("infer-schema", path)
        assert (screen.exit_code, screen.out) == (2, "")
        assert len(screen.err.splitlines()) <= 2


def _check_exploration(workspace: Workspace, screen: Screen) -> Path:
    assert screen.exit_code == 0, screen.err
    made = workspace.adhoc / f"{TODAY}-explore-rain.ipynb"
    schema = yaml.safe_load((workspace.adhoc / "rain-schema.yaml").read_text())
    assert schema["columns"] == {"city": "VARCHAR", "rain": "DOUBLE"}
    assert f"adhoc/{made.name}" in screen.out
    nbformat.validate(nbformat.read(made, nbformat.NO_CONVERT))
    return made


def test_7_1_30_generate_adhoc_fetches_data_and_makes_a_notebook(
    make_workspace: MakeWorkspace, dsflow: Dsflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rain.csv").write_text(RAIN)
    workspace = make_workspace({})
    screen = dsflow("generate-adhoc", "rain", f"file://{tmp_path}/rain.csv", "csv")
    made = _check_exploration(workspace, screen)
    partition = Datastore(workspace.datastore).partition("raw", "rain", TODAY)
    assert partition is not None
    assert [file.read_text() for file in partition.files] == [RAIN]
    rows = _run_cells(made, monkeypatch)["rows"]
    assert rows.fetchall() == [("Paris", 0.5), ("Orly", 1.0)]  # type: ignore[attr-defined]


def test_7_1_30_the_command_that_generate_adhoc_ends_with_makes_a_job(
    make_workspace: MakeWorkspace, dsflow: Dsflow, tmp_path: Path
) -> None:
    (tmp_path / "rain.csv").write_text(RAIN)
    workspace = make_workspace({})
    last = dsflow("generate-adhoc", "rain", str(tmp_path / "rain.csv"), "csv").out.splitlines()[-1].split()
    assert dsflow(*last[1:]).exit_code == 0
    assert workspace.job_names() == ["create-table-rain"]


def test_7_1_30_data_of_the_datastore_is_used_where_it_is(
    make_workspace: MakeWorkspace, dsflow: Dsflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = '{"city": "Paris", "rain": 0.5}\n'
    workspace = make_workspace({"datastore/raw/other/ds=2026-11-19/x.json": lines})
    made = _check_exploration(workspace, dsflow("generate-adhoc", "rain", "datastore/raw/other", "json"))
    assert [path.name for path in (workspace.datastore / "raw").iterdir()] == ["other"]
    assert _run_cells(made, monkeypatch)["rows"].fetchall() == [("Paris", 0.5)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["Rain", "../x", "a-b", "", "a b", "ré"])
def test_7_1_30_an_invalid_name_is_refused(make_workspace: MakeWorkspace, dsflow: Dsflow, name: str) -> None:
    workspace = make_workspace({"rain.csv": RAIN})
    screen = dsflow("generate-adhoc", name, "rain.csv", "csv")
    assert (screen.exit_code, "invalid dataset name" in screen.err) == (2, True)
    assert not workspace.adhoc.exists()


def test_generate_adhoc_keeps_a_notebook_that_exists(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({"rain.csv": RAIN, f"adhoc/{TODAY}-explore-rain.ipynb": "mine"})
    assert dsflow("generate-adhoc", "rain", "rain.csv", "csv").exit_code == 2
    assert (workspace.adhoc / f"{TODAY}-explore-rain.ipynb").read_text() == "mine"
    assert dsflow("generate-adhoc", "rain", "rain.csv", "csv", "--force").exit_code == 0


def test_generate_adhoc_of_a_missing_file_leaves_nothing(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({})
    assert dsflow("generate-adhoc", "rain", "nope.csv", "csv").exit_code == 1
    assert not workspace.adhoc.exists()
    assert not (workspace.datastore / "raw").exists() or not any((workspace.datastore / "raw").rglob("*.csv"))


def test_generate_adhoc_without_arguments_is_a_usage_error(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({})
    screen = dsflow("generate-adhoc", "rain")
    assert (screen.exit_code, "missing argument" in screen.err) == (2, True)


@pytest.mark.parametrize("path", ["jobs/x/x", "jobs/x/x.ipynb"])
def test_7_1_30_transform_notebook_there_and_back(make_workspace: MakeWorkspace, dsflow: Dsflow, path: str) -> None:
    workspace = make_workspace({"jobs/x/x.ipynb": notebook("a = 1\n\n\nb = 2", "print(a)", parameters="n = 3")})
    original = workspace.jobs / "x/x.ipynb"
    before = [(c.cell_type, c.source, c.metadata) for c in nbformat.read(original, as_version=4).cells]
    screen = dsflow("transform-notebook", path)
    assert (screen.exit_code, screen.out) == (0, "jobs/x/x.ipynb -> jobs/x/x.py\n")
    assert (workspace.jobs / "x/x.py").read_text().count("# <codecell>") == 3
    original.unlink()
    assert dsflow("transform-notebook", "jobs/x/x.py").out == "jobs/x/x.py -> jobs/x/x.ipynb\n"
    made = nbformat.read(original, as_version=4)
    nbformat.validate(made)
    assert [(c.cell_type, c.source, c.metadata) for c in made.cells] == before


def test_transform_notebook_reads_percent_format_too(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({"x.py": "# %% [markdown]\n# hello\n\n# %%\n1 + 1\n"})
    assert dsflow("transform-notebook", "x").exit_code == 0
    cells = nbformat.read(workspace.root / "x.ipynb", as_version=4).cells
    assert [(cell.cell_type, cell.source) for cell in cells] == [("markdown", "hello"), ("code", "1 + 1")]


@pytest.mark.parametrize("content", [b"nope", b"\xff", b"{}", b'{"nbformat": 3}', json.dumps([]).encode()])
def test_transform_notebook_refuses_what_is_no_notebook(
    make_workspace: MakeWorkspace, dsflow: Dsflow, content: bytes
) -> None:
    workspace = make_workspace({"x.ipynb": content})
    screen = dsflow("transform-notebook", "x")
    assert (screen.exit_code, "x.ipynb" in screen.err) == (2, True)
    assert not (workspace.root / "x.py").exists()
    assert dsflow("transform-notebook", "y").exit_code == 2


def test_7_1_30_tree_shows_the_folders_of_the_datastore_three_deep(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    make_workspace(
        {
            "datastore/raw/rain/ds=2026-11-20/deep/x.csv": "",
            "datastore/tables/rain/ds=2026-11-20/x.parquet": "",
            "datastore/tables/rain/ds=2026-11-19/x.parquet": "",
            "datastore/.dsflow/x/y": "",
        }
    )
    assert dsflow("tree").out.splitlines() == [
        "/data",
        "├── raw",
        "│   └── rain",
        "│       └── ds=2026-11-20",
        "└── tables",
        "    └── rain",
        "        ├── ds=2026-11-19",
        "        └── ds=2026-11-20",
    ]
    assert dsflow("tree", "/data/tables", "1").out.splitlines() == ["/data/tables", "└── rain"]
    assert dsflow("tree", "datastore/tables", "1", "--json").document == {"datastore/tables": {"rain": {}}}
    assert dsflow("tree", "/data/nope").exit_code == 2
