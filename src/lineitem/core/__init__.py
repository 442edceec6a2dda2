"""The words every room shares: money, quantities, periods, errors, clocks and ids. No I/O."""
