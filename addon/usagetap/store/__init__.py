"""The database: its schema, the one thread that writes it, the queries that read it."""
