"""Who is sent what from which number: the plan of a started campaign."""
