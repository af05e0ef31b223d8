"""Where tasks run: in this process, in local processes; one contract."""
