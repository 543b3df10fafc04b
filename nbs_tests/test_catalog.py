"""Unity Catalog: setting up, twice, at the same time, and after a failure half-way."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from lib.catalog import MIGRATIONS, Catalog, Migration, Step
from lib.core import ConfigurationError, InvalidInput, NotFound, new_id
from lib.settings import load_settings
from lib.workspace import Workspace


@pytest.fixture
def catalog(environment: dict[str, str]) -> Iterator[Catalog]:
    """An empty place: its schema does not exist yet."""
    settings = replace(load_settings(environment), schema=f"catalog_{new_id()[:8]}")
    workspace = Workspace(settings)
    yield Catalog(workspace, settings)
    workspace.execute(f"DROP SCHEMA IF EXISTS {settings.catalog}.{settings.schema} CASCADE")


def creating(name: str, columns: str = "x INT") -> Migration:
    """A migration that makes one table."""
    return Migration(name, lambda settings: [f"CREATE TABLE {settings.table('t' + name)} ({columns}) USING DELTA"])


def test_migrations_are_ordered_and_named_once():
    names = [migration.name for migration in MIGRATIONS]
    assert names == sorted(set(names))


def test_setting_up_makes_what_the_dry_run_says_and_only_once(catalog: Catalog):
    planned = catalog.setup(dry_run=True, principals=["agents"])
    assert catalog.applied() == {}
    assert catalog.setup(principals=["agents"]) == planned
    assert {step.action for step in catalog.setup(principals=["agents"])} == {"none"}
    assert list(catalog.applied()) == [migration.name for migration in MIGRATIONS]
    for table in ("decisions", "memory", "training_examples", "holdout", "otel_spans", "otel_logs", "otel_metrics"):
        assert catalog.workspace.sql(f"SELECT * FROM {catalog.settings.table(table)}") == []
    for volume in ("configs", "prompts", "staging"):
        assert catalog.workspace.list_files(catalog.settings.volume(volume)) == []


def test_telemetry_tables_take_rows_with_attributes(catalog: Catalog):
    catalog.setup()
    for table in ("otel_spans", "otel_logs", "otel_metrics"):
        name = catalog.settings.table(table)
        catalog.workspace.execute(
            f"""INSERT INTO {name} (record_id, resource)
                VALUES ('r', named_struct('attributes', parse_json('{{"a": 1}}'), 'dropped_attributes_count', 0))"""
        )
        attribute = "variant_get(resource.attributes, '$.a', 'int')"
        assert catalog.workspace.sql(f"SELECT {attribute} AS a FROM {name}") == [{"a": 1}]


def test_two_at_once_leave_one_history(catalog: Catalog):
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: Catalog(catalog.workspace, catalog.settings).setup(), range(2)))
    assert len(done) == 2
    assert set(catalog.applied()) == {migration.name for migration in MIGRATIONS}
    assert {step.action for step in catalog.setup()} == {"none"}


def test_a_failing_migration_is_not_recorded_and_stops_the_rest(catalog: Catalog):
    catalog.ensure_containers()
    broken = Migration("002_broken", lambda settings: ["CREATE TABEL x"])
    with pytest.raises(InvalidInput):
        catalog.migrate([creating("001_first"), broken, creating("003_third")])
    assert set(catalog.applied()) == {"001_first"}
    with pytest.raises(NotFound):
        catalog.workspace.sql(f"SELECT * FROM {catalog.settings.table('t003_third')}")
    mended = catalog.migrate([creating("001_first"), creating("002_broken"), creating("003_third")])
    assert [step.action for step in mended] == ["none", "apply", "apply"]


def test_an_edited_migration_is_refused_before_anything_is_touched(catalog: Catalog):
    catalog.ensure_containers()
    catalog.migrate([creating("001_first")])
    with pytest.raises(ConfigurationError, match="001_first"):
        catalog.migrate([creating("001_first", "x STRING"), creating("002_second")])
    assert set(catalog.applied()) == {"001_first"}


def test_another_layout_of_the_same_statement_is_no_edit(catalog: Catalog):
    catalog.ensure_containers()
    catalog.migrate([creating("001_first", "x INT, y INT")])
    assert catalog.migrate([creating("001_first", "x INT,\n    y INT")]) == [Step("migration", "001_first", "none")]


def test_a_grant_adds_only_what_is_missing(catalog: Catalog):
    catalog.ensure_containers()
    grants = catalog.workspace.client.grants
    schema = f"{catalog.settings.catalog}.{catalog.settings.schema}"
    principal = f"principal {new_id()[:8]}"
    assert [step.action for step in catalog.grant(principal)] == ["grant", "grant"]
    assert [step.action for step in catalog.grant(principal)] == ["none", "none"]
    held = grants.get("schema", schema, principal=principal).privilege_assignments[0].privileges
    assert {"SELECT", "MODIFY"} <= {privilege.value for privilege in held}
    assert "ALL_PRIVILEGES" not in {privilege.value for privilege in held}
