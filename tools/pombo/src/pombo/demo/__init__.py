"""The demonstration: a campaign from a spreadsheet to its end, with faults on the way, and its audit."""
