"""Files that people bring: kept in chunks, looked at, read in a process of their own."""
