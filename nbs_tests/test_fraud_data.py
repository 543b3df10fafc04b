"""The example's world, the reader of users' files and the profiles, from the outside."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from lib.catalog import Catalog
from lib.core import InvalidInput, NotFound, new_id
from lib.fraud.data import (
    FRAUD_MIGRATIONS,
    Profiles,
    Transaction,
    demo_transactions,
    load_history,
    load_profiles,
    read_transactions,
    simulate,
    split_history,
    watch,
)
from lib.settings import Settings, load_settings
from lib.workspace import Workspace

HEADER = "transaction_id,timestamp,customer_id,amount,merchant,location"
ROW = "A1,2026-03-01T12:30:00,C1,18.40,M7,Ghent"
PAYMENT = dict(zip(HEADER.split(","), ROW.split(","), strict=True))


@pytest.fixture(scope="module")
def world() -> pd.DataFrame:
    return simulate()


def csv(folder: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path = folder / "mine.csv"
    path.write_text("\n".join(lines), encoding=encoding)
    return path


def test_the_same_seed_gives_the_same_world(world: pd.DataFrame):
    assert world.equals(simulate())
    assert not world.amount.equals(simulate(seed=1).amount)


def test_every_fraud_follows_its_scenario(world: pd.DataFrame):
    assert (world.is_fraud == (world.scenario > 0)).all()
    assert (world.amount[world.scenario == 1] > 220).all()
    assert (world.amount[world.scenario == 0] <= 220).all()
    terminals = world[world.scenario == 2].groupby("merchant").timestamp
    assert (terminals.max() - terminals.min()).min() <= timedelta(days=28)
    usual = world[world.scenario == 0].groupby("customer_id").amount.mean()
    stolen = world[world.scenario == 3]
    assert (stolen.amount / stolen.customer_id.map(usual)).median() > 3


def test_a_world_without_thieves_has_only_the_limit():
    quiet = simulate(n_customers=10, n_terminals=30, days=20, seed=3, terminals_per_day=0, customers_per_day=0)
    assert set(quiet.scenario) <= {0, 1}


def test_customers_far_from_every_terminal_stay_at_home():
    assert len(simulate(n_customers=3, n_terminals=1, days=3, seed=1, radius=0.001)) == 0


def test_the_demo_shows_every_scenario_and_hides_the_labels(world: pd.DataFrame):
    payments, labels = demo_transactions(world)
    assert len(payments) == len(labels) == 12
    assert {p.transaction_id for p in payments} == set(labels)
    assert [p.timestamp for p in payments] == sorted(p.timestamp for p in payments)
    assert all(p.is_fraud is None for p in payments)
    shown = world[world.transaction_id.isin(labels)]
    assert set(shown.scenario) == {0, 1, 2, 3} and sum(labels.values()) == shown.is_fraud.sum() == 5
    assert shown.timestamp.min() > split_history(world)[0].timestamp.max()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", "12 euro"),
        ("amount", -0.01),
        ("amount", float("nan")),
        ("amount", "inf"),
        ("amount", True),
        ("amount", None),
        ("amount", 1e12),
        ("timestamp", "yesterday"),
        ("timestamp", 1767225600),
        ("timestamp", "2026-02-30T00:00:00"),
        ("timestamp", "0001-01-01T00:00:00+14:00"),
        ("customer_id", "  "),
        ("merchant", 7),
        ("location", "x" * 201),
        ("transaction_id", None),
    ],
)
def test_a_faulty_payment_is_refused_by_field(field: str, value: object):
    with pytest.raises(ValidationError) as caught:
        Transaction.model_validate(PAYMENT | {field: value})
    assert [error["loc"] for error in caught.value.errors()] == [(field,)]


def test_timestamps_become_utc():
    for text in ("2026-03-01T14:30:00+01:00", "2026-03-01T13:30:00Z", "2026-03-01 13:30:00"):
        assert Transaction.model_validate(PAYMENT | {"timestamp": text}).timestamp == datetime(
            2026, 3, 1, 13, 30, tzinfo=UTC
        )


def test_columns_may_stand_in_any_order_among_others(tmp_path: Path):
    path = csv(
        tmp_path,
        "note, amount ,location,channel,merchant,customer_id,timestamp,transaction_id,is_fraud",
        '"said ""hello"", left",18.40,"Ghent, centre",,M7,C1,2026-03-01T12:30:00,A1,1',
        ",950,Liège,online,M11,C1,2026-03-01 23:10:00Z,A2,",
        encoding="utf-8-sig",
    )
    first, second = read_transactions(path)
    assert first.location == "Ghent, centre" and first.is_fraud is True and first.channel is None
    assert second.location == "Liège" and second.is_fraud is None and second.amount == 950


def test_only_the_first_rows_are_read(tmp_path: Path):
    rows = [ROW.replace("A1", f"A{number}") for number in range(250)]
    assert len(read_transactions(csv(tmp_path, HEADER, *rows))) == 200
    assert len(read_transactions(csv(tmp_path, HEADER, *rows[:5], "rubbish"), limit=5)) == 5


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([""], ["empty", "transaction_id"]),
        ([HEADER], ["no rows"]),
        ([HEADER.replace(",amount", ""), ROW], ["missing column amount"]),
        ([HEADER.replace(",", ";"), ROW], ["missing column transaction_id", "transaction_id;timestamp"]),
        ([HEADER + ",amount", ROW + ",3"], ["column amount appears twice"]),
        ([HEADER, ROW, ROW], ["row 2 (line 3)", "transaction_id", "'A1' is already in row 1"]),
        ([HEADER, ROW, "", ROW.replace("A1", "A2").replace("18.40", "x")], ["row 2 (line 4)", "column amount", "'x'"]),
        ([HEADER, ROW.replace("18.40", "nan")], ["row 1 (line 2)", "column amount"]),
        ([HEADER, ROW.replace("18.40", "")], ["row 1 (line 2)", "column amount"]),
        (
            [HEADER, ROW.replace("2026-03-01T12:30:00", "01/03/2026")],
            ["row 1 (line 2)", "column timestamp", "ISO 8601"],
        ),
        ([HEADER, ROW.replace("18.40", "1,200.00")], ["row 1 (line 2)", "7 cells"]),
        ([HEADER, "A1,2026-03-01T12:30:00"], ["row 1 (line 2)", "2 cells"]),
        ([HEADER + ",is_fraud", ROW + ",maybe"], ["row 1 (line 2)", "column is_fraud", "'maybe'"]),
        ([HEADER, '"A1,2026'], ["line 2"]),
    ],
)
def test_a_faulty_file_is_told_by_column_and_row(tmp_path: Path, lines: list[str], told: list[str]):
    with pytest.raises(InvalidInput) as caught:
        read_transactions(csv(tmp_path, *lines))
    assert all(part in str(caught.value) for part in ["mine.csv", *told]), str(caught.value)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_is_told_by_line(tmp_path: Path, encoding: str):
    with pytest.raises(InvalidInput, match="not UTF-8"):
        read_transactions(csv(tmp_path, HEADER, ROW.replace("Ghent", "Liège"), encoding=encoding))


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path):
    for path in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(InvalidInput, match=path.name):
            read_transactions(path)


def payment(amount: float, day: int = 0, merchant: str = "M7") -> Transaction:
    when = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)
    return Transaction(
        transaction_id=f"{day}", timestamp=when, customer_id="C1", amount=amount, merchant=merchant, location="Ghent"
    )


def test_strangers_get_the_populations_habit():
    profiles = Profiles()
    mean, std = profiles.habit("nobody")
    assert mean > 0 and std > 0
    for amount in (10.0, 20.0, 30.0):
        profiles.observe(payment(amount))
    assert profiles.habit("nobody")[0] == pytest.approx(20)
    assert profiles.habit("C1")[0] == pytest.approx(20)


def test_a_doubtful_payment_teaches_only_so_far():
    trusting, careful = Profiles(), Profiles()
    for profiles in (trusting, careful):
        for day in range(20):
            profiles.observe(payment(20 + day % 3, day))
    trusting.observe(payment(5000))
    careful.observe(payment(5000), doubtful=True)
    assert trusting.habit("C1")[0] > 200
    assert careful.habit("C1")[0] < 25


def test_a_terminals_record_fades():
    profiles = Profiles()
    for day in range(10):
        profiles.learn(payment(20, day), is_fraud=True)
    rates = [profiles.fraud_rate("M7", payment(20, day).timestamp) for day in (10, 24, 60, 400)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0.7 and rates[-1] == pytest.approx(profiles.base_rate, abs=0.01)


@pytest.fixture(scope="module")
def ground(environment: dict[str, str]) -> tuple[Workspace, Settings]:
    settings = replace(load_settings(environment), schema=f"fraud_{new_id()[:8]}")
    workspace = Workspace(settings)
    catalog = Catalog(workspace, settings)
    catalog.setup()
    catalog.migrate(FRAUD_MIGRATIONS)
    return workspace, settings


def test_profiles_need_their_table(ground: tuple[Workspace, Settings]):
    workspace, settings = ground
    with pytest.raises(NotFound):
        load_profiles(workspace, replace(settings, schema="nowhere"))
    assert load_profiles(workspace, settings).customers == {}


def test_the_table_and_the_watcher_agree(ground: tuple[Workspace, Settings], world: pd.DataFrame):
    workspace, settings = ground
    history, _ = split_history(world)
    assert load_history(workspace, settings, history) == len(history)
    assert load_history(workspace, settings, history) == 0
    loaded, watched = load_profiles(workspace, settings), watch(history)
    assert loaded.customers.keys() == watched.customers.keys() and loaded.merchants.keys() == watched.merchants.keys()
    assert loaded.largest_genuine == watched.largest_genuine and loaded.base_rate == pytest.approx(watched.base_rate)
    for customer in watched.customers:
        assert loaded.habit(customer) == pytest.approx(watched.habit(customer))
    end = history.timestamp.max()
    for merchant in watched.merchants:
        assert loaded.fraud_rate(merchant, end) == pytest.approx(watched.fraud_rate(merchant, end), rel=1e-4)
