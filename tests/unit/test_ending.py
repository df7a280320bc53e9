"""How a response ended: the whole table of contract.md, section 3."""
