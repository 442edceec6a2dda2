"""Meters, prices, pricebooks, accounts and tags: what usage means and what it costs, effective-dated."""
