"""A bad disk, a locked, deleted, corrupted or newer database: traffic unharmed, rows kept."""
