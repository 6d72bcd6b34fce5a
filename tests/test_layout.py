from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsflow.errors import UsageError
from dsflow.store.layout import Layout, check_name


def test_tables_and_raw_datasets_are_kept_apart() -> None:
    layout = Layout(Path("/data"))
    assert layout.target("table", "x", "2026-11-20") == Path("/data/tables/x/ds=2026-11-20")
    assert layout.target("raw", "x", "2026-11-20") == Path("/data/raw/x/ds=2026-11-20")
    assert layout.manifest("raw", "x", "2026-11-20") == Path("/data/.dsflow/manifests/raw/x/ds=2026-11-20.json")


def test_a_run_writes_into_a_folder_that_ends_like_the_partition() -> None:
    staged = Layout(Path("/data")).staged("run", "table", "x", "2026-11-20")
    assert staged == Path("/data/.dsflow/staging/run/tables/x/ds=2026-11-20")


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "a/b", "../x", "a\\b", "a\nb", "a\0b", "x" * 101, "雨" * 90])
def test_names_that_are_no_folder_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a table name") as caught:
        Layout(Path("/data")).dataset("table", name)
    assert len(caught.value.message) < 200
    with pytest.raises(UsageError, match="cannot be a ds"):
        Layout(Path("/data")).target("table", "x", name)
    with pytest.raises(UsageError, match="cannot be a run id"):
        Layout(Path("/data")).run_folder(name)


@given(st.text(st.characters(), max_size=120))
def test_an_accepted_name_stays_in_its_folder_and_can_be_encoded(name: str) -> None:
    try:
        check_name(name, "table name")
    except UsageError:
        return
    path = Layout(Path("/data")).manifest("table", name, name)
    assert path.resolve().parts[:4] == ("/", "data", ".dsflow", "manifests")
    assert len(path.name.encode()) <= 255


def test_a_path_that_leaves_the_datastore_over_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data" / "tables").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    layout = Layout(tmp_path / "link")
    layout.check_inside(layout.target("table", "x", "1"))
    (tmp_path / "data" / "tables" / "x").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="a link that leaves the datastore"):
        layout.check_inside(layout.target("table", "x", "1"))
