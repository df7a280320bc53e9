"""usage_idle_timeout through a real mitmdump."""
