"""From results to statistics, tables, claims and figures. No torch."""
