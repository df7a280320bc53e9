"""A million cases against the bare core (`make fuzz`)."""
