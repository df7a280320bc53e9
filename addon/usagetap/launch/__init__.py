"""Everything about starting processes and trusting the CA: the commands that stand around the addon."""
