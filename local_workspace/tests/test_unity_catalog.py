"""Unity Catalog with the genuine SDK."""

import io

import pytest
from databricks.sdk.errors import BadRequest, NotFound, NotImplemented
from databricks.sdk.service.catalog import PermissionsChange, Privilege, VolumeType

from local_workspace.tests.conftest import start_workspace


def test_main_is_there_with_its_default_schema(workspace):
    assert workspace.client.catalogs.get("main").owner == "developer@local.workspace"
    assert "main.default" in [schema.full_name for schema in workspace.client.schemas.list("main")]


def test_a_catalog_lives_from_create_to_forced_delete(workspace):
    w = workspace.client
    made = w.catalogs.create("Uc_Life", comment="c", properties={"a": "b"})
    assert (made.name, made.comment, made.properties) == ("uc_life", "c", {"a": "b"})
    assert made.created_at > 1_600_000_000_000
    with pytest.raises(BadRequest, match="already exists"):
        w.catalogs.create("uc_life")
    assert w.catalogs.update("uc_life", comment="d").comment == "d"
    w.schemas.create("s", "uc_life")
    w.volumes.create("uc_life", "s", "v", VolumeType.MANAGED)
    folder = workspace.root / "volumes" / "uc_life" / "s" / "v"
    assert folder.is_dir()
    with pytest.raises(BadRequest, match="not empty"):
        w.catalogs.delete("uc_life")
    w.catalogs.delete("uc_life", force=True)
    assert not folder.exists()
    with pytest.raises(NotFound, match="uc_life"):
        w.catalogs.get("uc_life")


def test_a_volume_is_listed_read_and_dropped(workspace):
    w = workspace.client
    volume = w.volumes.create("main", "default", "uc_vol", VolumeType.MANAGED, comment="files")
    assert volume.full_name == "main.default.uc_vol"
    assert "uc_vol" in [v.name for v in w.volumes.list("main", "default")]
    assert w.volumes.read("main.default.uc_vol").comment == "files"
    w.volumes.delete("main.default.uc_vol")
    with pytest.raises(NotFound) as missing:
        w.volumes.read("main.default.uc_vol")
    assert missing.value.error_code == "VOLUME_DOES_NOT_EXIST"


@pytest.mark.parametrize(
    ("full_name", "code"),
    [("nope.s.v", "CATALOG_DOES_NOT_EXIST"), ("main.nope.v", "SCHEMA_DOES_NOT_EXIST")],
)
def test_the_first_missing_level_is_named(workspace, full_name, code):
    with pytest.raises(NotFound) as missing:
        workspace.client.volumes.read(full_name)
    assert missing.value.error_code == code


@pytest.mark.parametrize("name", ["", "..", "a.b", "a/b", "a b", "x" * 256, "a\nb", "../../etc"])
def test_a_bad_name_is_refused(workspace, name):
    with pytest.raises(BadRequest):
        workspace.client.schemas.create(name, "main")
    with pytest.raises(BadRequest):
        workspace.client.volumes.create("main", "default", name, VolumeType.MANAGED)


def test_a_unicode_name_is_kept(workspace):
    w = workspace.client
    w.schemas.create("schön_日本", "main")
    assert w.schemas.get("main.schön_日本").name == "schön_日本"
    w.schemas.delete("main.schön_日本")


def test_an_unknown_option_is_refused_by_name(workspace):
    with pytest.raises(NotImplemented, match="connection_name"):
        workspace.client.catalogs.create("uc_foreign", connection_name="c")
    with pytest.raises(BadRequest, match="volume_type"):
        workspace.client.volumes.create("main", "default", "ext", VolumeType.EXTERNAL, storage_location="s3://b")


def test_wrong_types_name_the_field(workspace):
    answer = workspace.http.post("/api/2.1/unity-catalog/catalogs", json={"name": 7})
    assert answer.status_code == 400
    assert "name" in answer.json()["message"]
    assert workspace.http.post("/api/2.1/unity-catalog/catalogs", content=b"").status_code == 400


def test_grants_are_stored_and_shown(workspace):
    w = workspace.client
    w.schemas.create("uc_grants", "main")
    change = PermissionsChange(principal="data team", add=[Privilege.SELECT, Privilege.MODIFY])
    w.grants.update("SCHEMA", "main.uc_grants", changes=[change])
    change = PermissionsChange(principal="data team", remove=[Privilege.MODIFY])
    w.grants.update("schema", "main.uc_grants", changes=[change])
    [shown] = w.grants.get("schema", "main.uc_grants").privilege_assignments
    assert (shown.principal, shown.privileges) == ("data team", [Privilege.SELECT])
    w.schemas.delete("main.uc_grants")
    with pytest.raises(NotFound):
        w.grants.get("schema", "main.uc_grants")


def test_listing_goes_page_by_page(workspace):
    w = workspace.client
    for name in ("p1", "p2", "p3"):
        w.schemas.create(f"uc_{name}", "main")
    names = [schema.name for schema in w.schemas.list("main", max_results=2)]
    assert names == sorted(names)
    assert {"uc_p1", "uc_p2", "uc_p3"} <= set(names)


def test_state_survives_kill_9(tmp_path):
    with start_workspace(tmp_path) as first:
        first.client.catalogs.create("kept")
        first.client.volumes.create("kept", "default", "v", VolumeType.MANAGED)
        first.process.kill()
    with start_workspace(tmp_path) as second:
        assert second.client.volumes.read("kept.default.v").name == "v"


def test_a_volume_gets_another_name_and_keeps_its_files(workspace):
    w = workspace.client
    w.volumes.create("main", "default", "uc_before", VolumeType.MANAGED)
    w.files.upload("/Volumes/main/default/uc_before/f", io.BytesIO(b"1"))
    renamed = w.volumes.update("main.default.uc_before", new_name="uc_after", comment="c", owner="somebody")
    assert (renamed.full_name, renamed.comment, renamed.owner) == ("main.default.uc_after", "c", "somebody")
    assert w.files.download("/Volumes/main/default/uc_after/f").contents.read() == b"1"
    with pytest.raises(NotFound):
        w.files.get_metadata("/Volumes/main/default/uc_before/f")
    w.volumes.create("main", "default", "uc_other", VolumeType.MANAGED)
    with pytest.raises(BadRequest, match="already exists"):
        w.volumes.update("main.default.uc_other", new_name="uc_after")
    with pytest.raises(BadRequest, match="Invalid"):
        w.volumes.update("main.default.uc_other", new_name="../x")
    with pytest.raises(NotImplemented, match="new_name"):
        w.schemas.update("main.default", new_name="other")
    for name in ("uc_after", "uc_other"):
        w.volumes.delete(f"main.default.{name}")


def test_there_is_one_metastore(workspace):
    metastores = workspace.client.metastores
    current, summary = metastores.current(), metastores.summary()
    assert (current.metastore_id, current.default_catalog_name) == (summary.metastore_id, "main")
    assert current.workspace_id == workspace.client.get_workspace_id()
    assert [m.metastore_id for m in metastores.list()] == [summary.metastore_id]


def test_effective_privileges_come_from_above_too(workspace):
    w = workspace.client
    w.schemas.create("uc_effective", "main")
    for kind, name, privilege in (
        ("CATALOG", "main", Privilege.USE_CATALOG),
        ("SCHEMA", "main.uc_effective", Privilege.SELECT),
    ):
        change = PermissionsChange(principal="uc readers", add=[privilege])
        w.grants.update(kind, name, changes=[change])
    [held] = w.grants.get_effective("SCHEMA", "main.uc_effective", principal="uc readers").privilege_assignments
    assert [(p.privilege, p.inherited_from_name) for p in held.privileges] == [
        (Privilege.SELECT, None),
        (Privilege.USE_CATALOG, "main"),
    ]
    w.grants.update(
        "CATALOG", "main", changes=[PermissionsChange(principal="uc readers", remove=[Privilege.USE_CATALOG])]
    )
    w.schemas.delete("main.uc_effective")


def test_tables_are_listed_without_what_is_not_wanted(workspace):
    w = workspace.client
    w.schemas.create("uc_lists", "main")
    warehouse = next(iter(w.warehouses.list())).id
    for name in ("t1", "t2", "u1"):
        create = f"CREATE TABLE main.uc_lists.{name} (a INT)"
        made = w.statement_execution.execute_statement(create, warehouse, wait_timeout="50s")
        assert made.status.state.value == "SUCCEEDED", made.status
    assert all(table.columns for table in w.tables.list("main", "uc_lists"))
    bare = list(w.tables.list("main", "uc_lists", omit_columns=True, omit_properties=True, omit_username=True))
    assert [(t.name, t.columns or [], t.properties, t.owner) for t in bare] == [
        (n, [], None, None) for n in ("t1", "t2", "u1")
    ]
    found = w.tables.list_summaries("main", schema_name_pattern="uc_l%", table_name_pattern="t_", max_results=1)
    assert [table.full_name for table in found] == ["main.uc_lists.t1", "main.uc_lists.t2"]
    w.tables.update("main.uc_lists.t1", owner="somebody")
    assert w.tables.get("main.uc_lists.t1").owner == "somebody"
    assert w.tables.exists("main.uc_lists.t1").table_exists
    w.schemas.delete("main.uc_lists", force=True)
