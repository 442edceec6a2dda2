"""lineitem: usage events in; priced, immutable, explainable line items out."""

__version__ = "0.1.0"
