"""Requests that MLflow's server takes for errors of its own (500) are the caller's here (400)."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.server import handlers
from mlflow.store.tracking import sqlalchemy_store
from mlflow.utils.search_utils import SearchLoggedModelsPaginationToken, SearchUtils

WRONG = (TypeError, AttributeError, ValueError, OverflowError, RecursionError)
"""What its parsing raises for a value of another type."""
MAX_ID = 2**63 - 1


def install() -> None:
    """Read requests, page tokens and experiment ids strictly from now on."""
    handlers._get_request_message = _told(handlers._get_request_message, "the request does not fit")
    for place, name in (
        (SearchUtils, "parse_start_offset_from_page_token"),
        (SearchLoggedModelsPaginationToken, "decode"),
    ):
        setattr(place, name, staticmethod(_told(getattr(place, name), "page_token is none that was given")))
    parse = sqlalchemy_store._parse_experiment_id
    vars(sqlalchemy_store)["_parse_experiment_id"] = lambda experiment_id: min(parse(experiment_id), MAX_ID)


def _told(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    @wraps(function)
    def told(*args: Any, **named: Any) -> Any:
        try:
            return function(*args, **named)
        except WRONG as error:
            raise MlflowException.invalid_parameter_value(f"{what}: {type(error).__name__}: {error}") from error

    return told
