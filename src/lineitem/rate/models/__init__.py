"""The price models by name. A new one is a file here, a line below, its fields in ``catalog/price_doc.py``, a test."""

from __future__ import annotations

from lineitem.rate.models import graduated, graduated_percentage, package, per_unit, stairstep, volume
from lineitem.rate.models.shape import Model

MODELS: dict[str, Model] = {
    "per_unit": per_unit.MODEL,
    "graduated": graduated.MODEL,
    "volume": volume.MODEL,
    "package": package.MODEL,
    "stairstep": stairstep.MODEL,
    "graduated_percentage": graduated_percentage.MODEL,
}
