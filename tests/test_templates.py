"""`dsflow generate-job`: from a template to a job."""

from __future__ import annotations

import ast
import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

from dsflow.specs.load import load_job
from dsflow.workspace import Workspace
from tests.conftest import MakeWorkspace, Screen

Dsflow = Callable[..., Screen]
OURS = [
    "create_table_from_csv",
    "create_table_from_json",
    "create_table_from_sql",
    "download_file",
    "notebook",
    "plotly_dash_app",
    "python_script",
    "spark_job",
]
URL = "https://example.org/meteo.zip?day={{ ds }}&all=1"
ANSWERS = ("--set", f"source_url={URL}", "--set", "unzip=yes")
TWO_QUESTIONS = "template_parameters: [{name: a}, {name: b}, {name: c, default: 1}]"
PREDECESSORS = {
    "templates/jobs/shout/template_specs.yaml": """
        version: '0.1'
        job_name_prefix: shout
        template_parameters:
          - {name: word, type: prompt, text: Please give a word}
          - {name: loud, type: confirm, text: "Loud?"}
        mkdir:
          - "datastore://raw/{{ dataset_name }}/ds={{ ds }}"
        """,
    "templates/jobs/shout/job_specs.yaml.j2": """
        version: '0.1'
        description: "{{ job_name }}"
        class: JupyterNotebook
        image: dsflow/pyspark:2.2
        script: {{ job_name }}.ipynb
        job_parameters:
          - ds
        task_specs:
          sink_path: "/data/tables/{{ dataset_name }}/ds={% raw %}{{ ds }}{% endraw %}"
        """,
    "templates/jobs/shout/notebook.py.j2": """
        # -*- coding: utf-8 -*-
        # <nbformat>3.0</nbformat>

        # <markdowncell>

        # # {{ dataset_name }}

        # <codecell>

        print("{{ word }}{% if loud %}!{% endif %}")
        """,
    "templates/jobs/shout/README.md.j2": "Run it: `dsflow run {{ job_name }} {{ ds }}`\n",
}


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _sources(notebook: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(notebook, as_version=4).cells]


def test_7_1_05_alone_it_shows_usage_the_sorted_templates_and_an_example(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    make_workspace({})
    screen = dsflow("generate-job")
    lines = screen.out.splitlines()
    listed = [line.split() for line in lines if line.startswith("  ") and not line.startswith("  $")]
    assert screen.exit_code == 0
    assert lines[0].startswith("Usage: dsflow generate-job TEMPLATE NAME")
    assert [words[0] for words in listed] == OURS
    assert all(len(words) > 3 for words in listed), "every template has a description"
    assert lines[-1] == "  $ dsflow generate-job download_file my_dataset"


def test_7_1_05_the_list_as_json(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({})
    assert [entry["name"] for entry in dsflow("generate-job", "--json").document] == OURS


def _check_download(workspace: Workspace) -> None:
    folder = workspace.jobs / "download-meteo"
    specs = yaml.safe_load((folder / "job_specs.yaml").read_text())
    script = folder / "download-meteo.sh"
    assert _files(folder) == ["README.md", "download-meteo.sh", "job_specs.yaml"]
    assert script.stat().st_mode & stat.S_IXUSR
    assert "--unzip" in script.read_text()
    assert specs["class"] == "CommandLineTool"
    assert specs["task_specs"] == {"source_path": URL, "sink_path": "/data/raw/meteo/ds={{ ds }}"}


def test_7_1_06_on_a_terminal_the_questions_are_asked(make_workspace: MakeWorkspace) -> None:
    import pexpect

    workspace = make_workspace({})
    command = ["-m", "dsflow", "generate-job", "download_file", "meteo"]
    terminal = pexpect.spawn(sys.executable, command, encoding="utf-8", timeout=60)
    terminal.expect("Address of the file")
    terminal.sendline(URL)
    terminal.expect(r"zip file.*\[y/N\]")
    terminal.sendline("y")
    terminal.expect("Instructions:")
    terminal.expect("dsflow run download-meteo")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
    _check_download(workspace)


def test_on_a_terminal_a_wrong_answer_is_asked_again(make_workspace: MakeWorkspace) -> None:
    import pexpect

    make_workspace({})
    command = ["-m", "dsflow", "generate-job", "download_file", "meteo"]
    terminal = pexpect.spawn(sys.executable, command, encoding="utf-8", timeout=60)
    terminal.expect("Address of the file")
    terminal.sendline(URL)
    terminal.expect(r"zip file.*\[y/N\]")
    terminal.sendline("maybe")
    terminal.expect("unzip=maybe: answer yes or no")
    terminal.expect(r"zip file.*\[y/N\]")
    terminal.sendline("")
    terminal.expect(pexpect.EOF)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create_table_from_csv", "meteo"], "jobs/create-table-meteo exists already"),
        (["create_table_from_csv", "other", "--sample", "none.csv"], "none.csv: there is no such file"),
    ],
)
def test_on_a_terminal_nothing_is_asked_where_the_answers_would_be_lost(
    make_workspace: MakeWorkspace, dsflow: Dsflow, arguments: list[str], said: str
) -> None:
    import pexpect

    make_workspace({})
    dsflow("generate-job", "create_table_from_csv", "meteo", "-y")
    terminal = pexpect.spawn(sys.executable, ["-m", "dsflow", "generate-job", *arguments], encoding="utf-8", timeout=60)
    terminal.expect(pexpect.EOF)
    assert said in terminal.before
    assert "Raw dataset to read" not in terminal.before


def test_on_a_terminal_the_instructions_wrap_between_words(make_workspace: MakeWorkspace) -> None:
    import pexpect

    make_workspace({})
    command = ["-m", "dsflow", "generate-job", "create_table_from_csv", "a_rather_long_name", "-y"]
    terminal = pexpect.spawn(sys.executable, command, encoding="utf-8", timeout=60, dimensions=(24, 80))
    terminal.expect(pexpect.EOF)
    lines = terminal.before.splitlines()
    assert max(map(len, lines[lines.index("Instructions:") :])) <= 80
    assert "    dsflow run create-table-a_rather_long_name" in terminal.before


def test_7_1_07_with_answers_given_nothing_is_asked(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({})
    screen = dsflow("generate-job", "download_file", "meteo", *ANSWERS)
    assert screen.exit_code == 0
    assert screen.out.splitlines()[:4] == [
        "     new directory    jobs/download-meteo",
        "     new file         jobs/download-meteo/README.md",
        "     new file         jobs/download-meteo/download-meteo.sh",
        "     new file         jobs/download-meteo/job_specs.yaml",
    ]
    assert "dsflow run download-meteo" in screen.out
    _check_download(workspace)


def test_7_1_07_an_answer_that_is_missing_is_named_with_all_others(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    workspace = make_workspace(
        {
            "templates/jobs/two/template_specs.yaml": TWO_QUESTIONS,
            "templates/jobs/two/job_specs.yaml.j2": "",
        }
    )
    screen = dsflow("generate-job", "two", "x")
    assert screen.exit_code == 2
    assert "a, b" in screen.err
    assert "--set a=... --set b=..." in screen.err
    assert list(workspace.jobs.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("source_ulr=x", "did you mean 'source_url'"),
        ("unzip=perhaps", "answer yes or no"),
        ("source_url", "there is no '='"),
    ],
)
def test_a_wrong_answer_is_refused_with_a_hint(
    make_workspace: MakeWorkspace, dsflow: Dsflow, setting: str, said: str
) -> None:
    workspace = make_workspace({})
    screen = dsflow("generate-job", "download_file", "x", "--set", setting)
    assert screen.exit_code == 2
    assert said in screen.err
    assert list(workspace.jobs.iterdir()) == []


@pytest.mark.parametrize("file_format", ["csv", "json"])
@pytest.mark.parametrize("sample", [False, True])
def test_7_1_08_a_table_job_is_a_valid_notebook(
    make_workspace: MakeWorkspace, dsflow: Dsflow, file_format: str, sample: bool
) -> None:
    workspace = make_workspace({"some.csv": 'a;"b ""x"""\n1;2\n', "some.json": '{"a": 1, "b \\"x\\"": 2}\n'})
    given = ["--sample", f"some.{file_format}"] if sample else []
    assert dsflow("generate-job", f"create_table_from_{file_format}", "meteo", *given).exit_code == 0
    notebook = nbformat.read(workspace.jobs / "create-table-meteo" / "create-table-meteo.ipynb", nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert notebook.nbformat == 4
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        assert cell.source.strip() == cell.source != ""
        if cell.cell_type == "code":
            ast.parse(cell.source)
    options = load_job(workspace, "create-table-meteo").inputs["raw"].options
    if sample and file_format == "csv":
        assert options == {"delim": ";", "header": True, "types": {"a": "BIGINT", 'b "x"': "BIGINT"}}
    if sample and file_format == "json":
        assert options == {"columns": {"a": "BIGINT", 'b "x"': "BIGINT"}}


def test_a_template_without_columns_takes_no_sample(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({"some.csv": "a\n1\n"})
    screen = dsflow("generate-job", "notebook", "x", "--sample", "some.csv")
    assert (screen.exit_code, "takes no sample" in screen.err) == (2, True)


def test_a_sql_job_asks_for_the_rows_of_its_own_date(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({})
    assert dsflow("generate-job", "create_table_from_sql", "a", "--set", "source_table=rain").exit_code == 0
    query = (workspace.jobs / "create-table-a" / "query.sql").read_text()
    assert query.endswith("FROM \"rain\"\nWHERE ds = '{{ ds }}'\n")
    own = "SELECT 1 WHERE '{{ ds }}' > ''"
    assert dsflow("generate-job", "create_table_from_sql", "b", "--set", f"query={own}").exit_code == 0
    assert (workspace.jobs / "create-table-b" / "query.sql").read_text() == own + "\n"


@pytest.mark.parametrize("include", [True, False])
def test_7_1_09_the_dashboard_has_a_table_only_if_wanted(
    make_workspace: MakeWorkspace, dsflow: Dsflow, include: bool
) -> None:
    workspace = make_workspace({})
    given = ["--set", "y_axis=a \"quoted\" 'word'", "--set", f"include_table={'yes' if include else 'no'}"]
    assert dsflow("generate-job", "plotly_dash_app", "t", *given).exit_code == 0
    app = (workspace.jobs / "dashboard-t" / "dashboard-t.py").read_text()
    ast.parse(app)
    assert ("html.Table(" in app) is include
    assert ('id="rows"' in app) is include
    assert "http" not in app, "no style sheet from elsewhere"


def test_7_1_10_an_unknown_template_lists_the_known_ones(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({})
    screen = dsflow("generate-job", "download_fil", "x")
    assert screen.exit_code == 2
    assert "did you mean 'download_file'" in screen.err
    assert all(name in screen.err for name in OURS)


def test_7_1_10_without_a_name_it_shows_the_usage(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace({})
    screen = dsflow("generate-job", "download_file")
    assert (screen.exit_code, "Usage: dsflow generate-job TEMPLATE NAME" in screen.err) == (2, True)


def test_7_1_11_an_existing_job_is_refused_and_the_difference_shown(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    workspace = make_workspace({})
    dsflow("generate-job", "create_table_from_json", "meteo")
    folder = workspace.jobs / "create-table-meteo"
    before = {name: (folder / name).read_bytes() for name in _files(folder)}
    screen = dsflow("generate-job", "create_table_from_csv", "meteo")
    assert screen.exit_code == 2
    assert "jobs/create-table-meteo exists already" in screen.err
    assert "--force" in screen.err
    assert "-    format: json" in screen.out
    assert "+    format: csv" in screen.out
    assert {name: (folder / name).read_bytes() for name in _files(folder)} == before


def test_7_1_11_with_force_its_files_are_replaced_and_other_files_stay(
    make_workspace: MakeWorkspace, dsflow: Dsflow
) -> None:
    workspace = make_workspace({})
    dsflow("generate-job", "create_table_from_json", "meteo")
    folder = workspace.jobs / "create-table-meteo"
    (folder / "notes.txt").write_text("mine")
    screen = dsflow("generate-job", "create_table_from_csv", "meteo", "--force")
    assert screen.exit_code == 0
    assert "     changed file     jobs/create-table-meteo/job_specs.yaml" in screen.out
    assert load_job(workspace, "create-table-meteo").inputs["raw"].format == "csv"
    assert (folder / "notes.txt").read_text() == "mine"
    assert [path.name for path in workspace.jobs.iterdir() if path.is_dir()] == ["create-table-meteo"]


def test_7_1_12_a_template_of_the_predecessor_works_as_it_is(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(PREDECESSORS)
    assert "shout" in dsflow("generate-job").out
    screen = dsflow("generate-job", "shout", "hey", "--set", "word=hello", "--set", "loud=y")
    folder = workspace.jobs / "shout-hey"
    assert screen.exit_code == 0
    assert _files(folder) == ["README.md", "job_specs.yaml", "shout-hey.ipynb"]
    assert _sources(folder / "shout-hey.ipynb") == ["# hey", 'print("hello!")']
    spec = load_job(workspace, "shout-hey")
    assert spec.task_specs == {"sink_path": "/data/tables/hey/ds={{ ds }}"}
    (made,) = (workspace.datastore / "raw" / "hey").iterdir()
    assert made.name.startswith("ds=")
    assert f"     new directory    datastore/raw/hey/{made.name}" in screen.out


def test_a_workspace_template_replaces_ours_of_the_same_name(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    tree = {name.replace("/shout/", "/notebook/"): text for name, text in PREDECESSORS.items()}
    workspace = make_workspace(tree)
    assert dsflow("generate-job", "notebook", "x", "--set", "word=a").exit_code == 0
    assert workspace.job_names() == ["shout-x"]


def test_dry_run_shows_the_files_and_writes_nothing(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace(PREDECESSORS)
    screen = dsflow("generate-job", "shout", "hey", "--set", "word=hello", "--dry-run")
    assert screen.exit_code == 0
    assert "+++ jobs/shout-hey/shout-hey.ipynb" in screen.out
    assert '+print("hello")' in screen.out
    assert list(workspace.jobs.iterdir()) == list(workspace.datastore.iterdir()) == []


def test_dry_run_over_an_existing_job_shows_the_difference(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    make_workspace(PREDECESSORS)
    dsflow("generate-job", "shout", "hey", "--set", "word=hello")
    assert (
        "already what the template makes"
        in dsflow("generate-job", "shout", "hey", "--set", "word=hello", "--dry-run").out
    )
    screen = dsflow("generate-job", "shout", "hey", "--set", "word=bye", "--dry-run")
    changed = [line for line in screen.out.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert changed == ['-print("hello")', '+print("bye")']


@pytest.mark.parametrize("name", ["../x", "a/b", ".x", "", "a b", "x" * 200, "ä", "x;rm", "-x"])
def test_a_name_that_is_no_folder_name_is_refused(make_workspace: MakeWorkspace, dsflow: Dsflow, name: str) -> None:
    workspace = make_workspace({})
    screen = dsflow("generate-job", "notebook", "--", name)
    assert screen.exit_code == 2
    assert "valid job name" in screen.err
    assert list(workspace.jobs.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("README.md.j2", "{{ wrod }}", "shout/README.md.j2: line 1: 'wrod' is undefined; did you mean 'word'?"),
        ("README.md.j2", "{% for x in range(10 ** 9) %}{% endfor %}", "too"),
        ("job_specs.yaml.j2", "version: 1\nkind: notbook\n", "jobs/shout-x/job_specs.yaml: kind"),
        ("job_specs.yaml.j2", "version: 1\nkind: script\nmain: ../../x.sh\n", "outside the job"),
        ("template_specs.yaml", "mkdir: ['datastore://../x']", "not in the datastore"),
        ("template_specs.yaml", "mkdir: ['/tmp/x']", "not in the datastore"),
        ("template_specs.yaml", "colour: red", "unknown key"),
    ],
)
def test_a_wrong_template_is_a_sentence_and_leaves_nothing(
    make_workspace: MakeWorkspace, dsflow: Dsflow, file: str, text: str, said: str
) -> None:
    workspace = make_workspace({**PREDECESSORS, f"templates/jobs/shout/{file}": text})
    given = [] if file == "template_specs.yaml" else ["--set", "word=a"]
    screen = dsflow("generate-job", "shout", "x", *given)
    assert screen.exit_code == 2
    assert said in screen.err
    assert list(workspace.jobs.iterdir()) == list(workspace.datastore.iterdir()) == []


def test_a_link_in_a_template_does_not_bring_files_from_elsewhere(
    make_workspace: MakeWorkspace, dsflow: Dsflow, tmp_path: Path
) -> None:
    workspace = make_workspace(PREDECESSORS)
    (tmp_path / "secret").write_text("secret")
    (workspace.root / "templates/jobs/shout/more.txt").symlink_to(tmp_path / "secret")
    screen = dsflow("generate-job", "shout", "x", "--set", "word=a")
    assert (screen.exit_code, "a link that leaves the template" in screen.err) == (2, True)
    assert list(workspace.jobs.iterdir()) == []


def test_a_job_folder_that_is_a_link_is_not_written_through(
    make_workspace: MakeWorkspace, dsflow: Dsflow, tmp_path: Path
) -> None:
    workspace = make_workspace({})
    (tmp_path / "elsewhere").mkdir()
    (workspace.jobs / "x").symlink_to(tmp_path / "elsewhere")
    screen = dsflow("generate-job", "notebook", "x", "--force")
    assert screen.exit_code == 2
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_other_files_and_folders_of_a_template_come_along(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    more: dict[str, str | bytes] = {
        "templates/jobs/shout/lib/words.py.j2": "WORD = {{ word | tojson }}\n",
        "templates/jobs/shout/lib/data.bin": b"\x00\xff",
        "templates/jobs/shout/verify/answers.yaml": "x",
    }
    workspace = make_workspace({**PREDECESSORS, **more})
    assert dsflow("generate-job", "shout", "x", "--set", 'word=a"b').exit_code == 0
    folder = workspace.jobs / "shout-x"
    assert _files(folder) == ["README.md", "job_specs.yaml", "lib/data.bin", "lib/words.py", "shout-x.ipynb"]
    assert (folder / "lib/words.py").read_text() == 'WORD = "a\\"b"\n'
    assert (folder / "lib/data.bin").read_bytes() == b"\x00\xff"


def test_percent_format_makes_a_notebook_too(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    text = '# %% [markdown]\n# # {{ dataset_name }}\n\n# %% tags=["parameters"]\nn = 1\n'
    workspace = make_workspace({**PREDECESSORS, "templates/jobs/shout/notebook.py.j2": text})
    assert dsflow("generate-job", "shout", "x", "--set", "word=a").exit_code == 0
    path = workspace.jobs / "shout-x" / "shout-x.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    assert [(cell.cell_type, cell.source) for cell in cells] == [("markdown", "# x"), ("code", "n = 1")]
    assert cells[1].metadata.tags == ["parameters"]
    first = path.read_bytes()
    dsflow("generate-job", "shout", "x", "--set", "word=a", "--force")
    assert path.read_bytes() == first, "the same answers make the same bytes"


def test_questions_have_types(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    specs = """
        template_parameters:
          - {name: n, type: integer, default: 3}
          - {name: x, type: number, default: 0.5}
          - {name: colour, type: choice, choices: [red, green], default: red}
          - {name: code, default: "{{ dataset_name }}-1", pattern: "[a-z]+-[0-9]"}
        """
    tree: dict[str, Any] = {
        "templates/jobs/typed/template_specs.yaml": specs,
        "templates/jobs/typed/job_specs.yaml.j2": "version: 1\nkind: script\nmain: x.sh\n",
        "templates/jobs/typed/x.sh.j2": "{{ [n, x, colour, code] | tojson }}",
    }
    workspace = make_workspace(tree)

    def made(*settings: str) -> Any:
        given = [part for setting in settings for part in ("--set", setting)]
        screen = dsflow("generate-job", "typed", "a", "--force", *given)
        return json.loads((workspace.jobs / "a/x.sh").read_text()) if screen.exit_code == 0 else screen.err

    assert made() == [3, 0.5, "red", "a-1"]
    assert made("n=4", "x=2", "colour=green", "code=b-2") == [4, 2.0, "green", "b-2"]
    assert "not a whole number" in made("n=4.5")
    assert "not a number" in made("x=much")
    assert "did you mean 'green'" in made("colour=gren")
    assert "does not look like" in made("code=B2")


def test_specs_name_a_schema_for_editors_that_is_there(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({})
    dsflow("generate-job", "notebook", "x")
    first = (workspace.jobs / "x/job_specs.yaml").read_text().splitlines()[0]
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert "kind" in json.loads((workspace.jobs / "x" / named).read_text())["properties"]


def test_jobs_that_cannot_be_written_is_a_sentence(make_workspace: MakeWorkspace, dsflow: Dsflow) -> None:
    workspace = make_workspace({})
    workspace.jobs.rmdir()
    workspace.jobs.write_text("")
    screen = dsflow("generate-job", "notebook", "x")
    assert screen.exit_code == 4
    assert "cannot write" in screen.err
    assert workspace.jobs.read_text() == ""
