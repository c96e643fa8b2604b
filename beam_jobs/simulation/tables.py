"""Arrow tables of the simulated log, as they are written."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from beam_jobs.simulation.catalogue import Catalogue
from beam_jobs.simulation.exposures import SURFACES, Exposures
from beam_jobs.simulation.outcomes import Outcomes
from beam_jobs.simulation.users import AGE_GROUPS, COUNTRIES, DEVICES, Users


def user_table(users: Users) -> pa.Table:
    """Returns the user file: one row for each user that it lists."""
    age_group = np.where(users.age_known, users.age_group, len(AGE_GROUPS))
    table = pa.table(
        {
            "user_id": users.user_id,
            "age_group": _names((*AGE_GROUPS, "unknown"), age_group),
            "country": _names(COUNTRIES, users.country),
            "device": _names(DEVICES, users.device),
            "account_days": pa.array(
                users.account_days.astype(np.float64), mask=~users.account_days_known
            ),
        }
    )
    return table.filter(pa.array(users.listed)).sort_by("user_id")


def item_table(catalogue: Catalogue) -> pa.Table:
    """Returns the item file: one row for each item that it lists, shown or not."""
    table = pa.table(
        {
            "item_id": catalogue.item_id,
            "category": catalogue.category,
            "author_id": 10_000 + catalogue.author,
            "duration_seconds": pa.array(
                catalogue.duration_seconds, mask=~catalogue.duration_known
            ),
        }
    )
    return table.filter(pa.array(catalogue.listed)).sort_by("item_id")


def impression_table(
    users: Users, catalogue: Catalogue, exposures: Exposures, outcomes: Outcomes, order: np.ndarray
) -> pa.Table:
    """Returns the log's rows in ``order``, without what no real log would know."""
    return pa.table(
        {
            "user_id": users.user_id[exposures.user[order]],
            "item_id": catalogue.item_id[exposures.item[order]],
            "time_ms": exposures.time_ms[order],
            "position": exposures.position[order],
            "surface": _names(SURFACES, exposures.surface[order]),
            "clicked": outcomes.clicked[order].astype(np.int8),
            "liked": outcomes.liked[order].astype(np.int8),
            "shared": outcomes.shared[order].astype(np.int8),
            "hidden": outcomes.hidden[order].astype(np.int8),
            "dwell_seconds": outcomes.dwell_seconds[order],
        }
    )


def truth_table(log: pa.Table, probability: np.ndarray) -> pa.Table:
    """Returns the true click probability of the rows of ``log``, with their keys."""
    keys = log.select(["user_id", "item_id", "time_ms", "position"])
    return keys.append_column("probability", pa.array(probability))


def _names(names: tuple[str, ...], codes: np.ndarray) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(codes))
