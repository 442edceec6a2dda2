"""The price models by name. A new one is a file here, a line below, its fields in ``catalog/price_doc.py``, a test.

``Model``s price the period's cumulative quantity, ``EventModel``s each event by itself.
"""

from __future__ import annotations

from lineitem.rate.models import (
    commitment,
    cost_plus,
    dynamic,
    flat,
    graduated,
    graduated_percentage,
    matrix,
    package,
    per_seat,
    per_unit,
    percentage,
    stairstep,
    telecom,
    volume,
)
from lineitem.rate.models.event import EventModel
from lineitem.rate.models.shape import Model

MODELS: dict[str, Model | EventModel] = {
    "per_unit": per_unit.MODEL,
    "graduated": graduated.MODEL,
    "volume": volume.MODEL,
    "package": package.MODEL,
    "stairstep": stairstep.MODEL,
    "graduated_percentage": graduated_percentage.MODEL,
    "percentage": percentage.MODEL,
    "dynamic": dynamic.MODEL,
    "cost_plus": cost_plus.MODEL,
    "matrix": matrix.MODEL,
    "telecom": telecom.MODEL,
    "flat": flat.MODEL,
    "commitment": commitment.MODEL,
    "per_seat": per_seat.MODEL,
}
