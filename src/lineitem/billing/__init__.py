"""From a period's line items to invoices: rounding, currencies, the invoice itself and its document."""
