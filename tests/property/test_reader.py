"""Any split of any body gives the same observation; any bytes at any split leave the tap unchanged."""
