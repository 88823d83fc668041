"""Two complete sets of tables: one is read while the other is rebuilt."""
