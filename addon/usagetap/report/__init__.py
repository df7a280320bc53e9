"""What people ask of the table: totals by period, waste, one response whole, exports, comparison with invoices."""
