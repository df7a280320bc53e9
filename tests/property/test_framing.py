"""Any split of any body gives the same frames, and memory stays within the limit."""
